"""Runs and exports that earlier versions wrote load and answer as they did then.

`fixtures/first_format.tar.gz` holds a run folder and an export of each task with their data and
configs, written by the last commit without digests, normalization and data-dependent defaults;
`first_format_answers.json` is what that commit answered.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seq2seq_kit import Seq2Seq
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
