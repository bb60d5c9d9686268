"""From a run to a packaged model that answers as it does."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from untrained import CARD, untrained_run

from seq2seq_kit import packing
from seq2seq_kit.archive import load_archive
from seq2seq_kit.config import load_saved_config
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.packing import pack_run
from seq2seq_kit.pretrained import catalog
from seq2seq_kit.pretrained.catalog import PretrainedModel
from seq2seq_kit.seq2seq import Seq2Seq


@pytest.fixture
def pack(folder: Path) -> Any:
    """A function that packs the run `run`."""
    (folder / "card.md").write_text(CARD)

    def run_packing(weights: Any = "int8", name: str = "ab-xy") -> PretrainedModel:
        return pack_run(
            folder / "run",
            name,
            folder / "card.md",
            weights=weights,
            num_lines=2,
            models=folder / "models",
        )

    return run_packing


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is generated and scored, which takes most of the time of packing."""
    measured = packing._Measured([], 3.0, None)
    monkeypatch.setattr(packing, "_measure", lambda *_: measured)


def test_a_packed_model_answers_as_its_run(folder: Path, pack: Any) -> None:
    run = untrained_run(folder, decoding={"max_length": 5, "beam_size": 1})
    packed = pack("float32")
    measured = packed.metadata.packing
    assert (measured.lines, measured.different_outputs) == (2, 0)
    assert measured.perplexity_before == measured.perplexity_after > 1
    assert measured.bleu_before == measured.bleu_after is not None
    before, after = Seq2Seq.load(run.path), Seq2Seq.load(packed.folder)
    for one, other in zip(
        before.model.trainable_variables, after.model.trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert (before._shortlist is None) == (after._shortlist is None)
    assert packed.metadata.parameters == before.model.count_params()
    assert packed.card.endswith("## Memorization\nNone.\n")


@pytest.mark.usefixtures("unmeasured")
def test_int8_weights_are_near_those_of_the_run(folder: Path, pack: Any) -> None:
    run = untrained_run(folder, task="continuation")
    packed = pack("int8")
    stored = load_archive(packed.folder / "best.npz").arrays
    assert {array.dtype.name for array in stored.values()} == {"int8", "float32"}
    weights = load_archive(run.best).arrays
    variables = Seq2Seq.load(packed.folder).model.trainable_variables
    for array, variable in zip(weights.values(), variables, strict=True):
        # The scales divide the range of a row or column, at most that of the whole array, by 127.
        step = np.abs(array).max() / 127
        np.testing.assert_allclose(variable.numpy(), array, atol=step / 2 * 1.001)
    assert packed.metadata.task == "continuation"
    assert packed.metadata.packing.bleu_after is None


@pytest.mark.usefixtures("unmeasured")
def test_a_packed_model_says_nothing_about_places(folder: Path, pack: Any) -> None:
    untrained_run(folder)
    packed = pack()
    config = (packed.folder / "config.yaml").read_text()
    assert "root: .\n" in config
    assert "tsv: train.tsv\n" in config
    for path in packed.folder.iterdir():
        assert folder.name.encode() not in path.read_bytes()


@pytest.mark.usefixtures("unmeasured")
def test_packing_again_replaces_the_model(folder: Path, pack: Any) -> None:
    untrained_run(folder)
    first = pack("float32").size
    assert pack("bfloat16").size < first
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["ab-xy"]


@pytest.mark.usefixtures("unmeasured")
def test_other_weights_of_the_same_run_are_not_taken_for_those_of_the_model(
    folder: Path, pack: Any
) -> None:
    untrained_run(folder)
    weights = pack("int8").folder / "best.npz"
    shutil.copyfile(pack("bfloat16", "other").folder / "best.npz", weights)
    with pytest.raises(RunError, match=r"best\.npz is damaged or of another run"):
        Seq2Seq.load(weights.parent)


@pytest.mark.usefixtures("unmeasured")
def test_what_cannot_be_packed_is_refused_and_leaves_nothing(
    folder: Path, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained_run(folder)
    with pytest.raises(InputError, match="lower-case letters, digits and hyphens"):
        pack(name="AB_xy")
    for limit, message in (
        ("MAX_MODEL_BYTES", "model ab-xy would have [0-9,]+ bytes; at most 100 are"),
        ("MAX_TOTAL_BYTES", "All packaged models together would have"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(catalog, limit, 100)
            with pytest.raises(RunError, match=message):
                pack()
    measured = iter((packing._Measured([], 3.0, None), packing._Measured([], 3.2, None)))
    with monkeypatch.context() as patch:
        patch.setattr(packing, "_measure", lambda *_: next(measured))
        with pytest.raises(RunError, match=r"perplexity per token rises from 3 to 3\.2"):
            pack()
    (folder / "dev.tsv").write_text("a\tx\n")
    with pytest.raises(InputError, match=r"data.validation.tsv: \S+dev.tsv has other contents"):
        pack()
    assert list((folder / "models").iterdir()) == []


@pytest.mark.usefixtures("unmeasured")
def test_a_model_is_loaded_by_its_name(
    folder: Path, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained_run(folder)
    saved = load_saved_config(pack().folder / "config.yaml")
    monkeypatch.setattr(catalog, "FOLDER", folder / "models")
    assert Seq2Seq.load("ab-xy").config == saved.config
    with pytest.raises(InputError, match=r"Or name a packaged model\. Did you mean `ab-xy`\?"):
        Seq2Seq.load("ab-xz")
    monkeypatch.chdir(folder)
    (folder / "ab-xy").mkdir()
    with pytest.raises(InputError, match="It hides the packaged model ab-xy"):
        Seq2Seq.load("ab-xy")
