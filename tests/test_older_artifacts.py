"""Runs and exports that earlier versions wrote load and answer as they did then.

`fixtures/first_format.tar.gz` holds a run folder and an export of each task with their data and
configs, written by the last commit without digests, normalization and data-dependent defaults;
`first_format_answers.json` is what that commit answered.
"""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seq2seq_kit import Seq2Seq
from seq2seq_kit.archive import load_archive
from seq2seq_kit.export.saved_model import ExportedModel

FIXTURES = Path(__file__).parent / "fixtures"
TASKS = ("translation", "continuation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first_format")
    with tarfile.open(FIXTURES / "first_format.tar.gz") as archive:
        archive.extractall(path, filter="data")
    return path


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    return json.loads((FIXTURES / "first_format_answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", TASKS)
def test_an_older_run_loads_and_answers_as_before(
    task: str, folder: Path, answers: dict[str, Any]
) -> None:
    expected = answers[task]["run"]
    model = Seq2Seq.load(folder / "runs" / task)
    best = [hypotheses[0] for hypotheses in model.hypotheses(expected["inputs"])]
    assert [one.text for one in best] == expected["texts"]
    np.testing.assert_allclose([one.log_prob for one in best], expected["log_probs"], atol=1e-3)
    np.testing.assert_allclose([one.score for one in best], expected["scores"], atol=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_an_older_export_loads_and_answers_as_before(
    task: str, folder: Path, answers: dict[str, Any]
) -> None:
    expected = answers[task]["export"]
    found = ExportedModel(folder / "exports" / task).generate(expected["inputs"])
    assert found.texts == expected["texts"]
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-3)


def test_the_training_of_an_older_run_can_be_resumed(
    folder: Path, tmp_path: Path, answers: dict[str, Any]
) -> None:
    run = Path(shutil.copytree(folder / "runs" / "translation", tmp_path / "run"))
    before = load_archive(run / "last.npz")
    resumed = Seq2Seq.fit(
        folder / "translation.yaml",
        run_dir=run,
        overrides=["training.max_steps=903", "training.validate_every=3"],
        resume=True,
    )
    after = load_archive(run / "last.npz")
    assert [record["step"] for record in resumed.history] == [300, 600, 900, 903]
    # What counts for early stopping and the learning rate is as it was, or as one more validation
    # makes it.
    best = min(record["val_loss"] for record in resumed.history)
    assert after.metadata["best_value"] == after.metadata["best_loss"] == best
    assert after.metadata["seconds"] > before.metadata["seconds"]
    # Adam's number of updates.
    assert after.arrays["optimizer/0"] == before.arrays["optimizer/0"] + 3 == 903
    # Its weights are those of the older run, a few small updates later.
    for name, array in before.arrays.items():
        if name.startswith("model/") and array.dtype == np.float32:
            np.testing.assert_allclose(after.arrays[name], array, atol=0.05)
    expected = answers["translation"]["run"]
    assert resumed.generate(expected["inputs"][:2]) == expected["texts"][:2]
