"""Training that starts from the weights of another run."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_config import config_of
from untrained import untrained_run

from seq2seq_kit.data.tokenizers import Tokenizers, build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import ConfigError
from seq2seq_kit.model.build import build_network
from seq2seq_kit.pretrained import catalog
from seq2seq_kit.training.origin import Origin, open_origin, start_from

WORDS = {"type": "char", "vocab_size": 40, "byte_fallback": False}
TWO = {"source": WORDS, "target": WORDS}


def started(folder: Path, **sections: Any) -> tuple[Origin, Any, list[np.ndarray], Tokenizers]:
    """A network started from a run on `folder`'s texts; with its weights before that."""
    (folder / "other").mkdir()
    (folder / "other" / "train.tsv").write_text("abcd\txyw\n", encoding="utf-8")
    (folder / "other" / "dev.tsv").write_text("a\tx\n", encoding="utf-8")
    config = config_of(folder / "other", init_from=str(folder / "run"), **sections)
    tokenizers = build_tokenizers(config, FileDigests())
    model = build_network(config, tokenizers)
    before = [variable.numpy() for variable in model.trainable_variables]
    origin = open_origin(config)
    assert origin is not None
    start_from(origin, model, tokenizers)
    return origin, model, before, tokenizers


@pytest.mark.parametrize("sections", [{}, {"task": "continuation"}, {"tokenizer": TWO}])
def test_with_the_same_vocabulary_all_weights_are_those_of_the_run(
    folder: Path, sections: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = untrained_run(folder, **sections)
    config = config_of(folder, init_from=str(run.path), seed=2, **sections)
    origin = open_origin(config)
    assert origin is not None
    model = build_network(config, origin.tokenizers)
    with caplog.at_level(logging.INFO):
        start_from(origin, model, origin.tokenizers)
    expected = np.load(run.best)
    for index, variable in enumerate(model.trainable_variables):
        np.testing.assert_array_equal(variable.numpy(), expected[f"weights/{index}"])
    size = origin.tokenizers.target.vocab_size
    assert f"from the weights of run: {size} of the {size} pieces" in caplog.text


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("task", ["translation", "continuation"])
def test_shared_pieces_keep_their_vectors_and_new_ones_start_at_random(
    folder: Path, task: str, tie_embeddings: bool
) -> None:
    model_section = {"units": 8, "embedding_dim": 4, "tie_embeddings": tie_embeddings}
    untrained_run(folder, task=task, model=model_section)
    origin, model, before, tokenizers = started(folder, task=task, model=model_section)
    old, new = origin.tokenizers.target.pieces, tokenizers.target.pieces
    shared = [piece for piece in new if piece in old]
    assert {"a", "b", "x", "y"} < set(shared)
    assert {"c", "d", "w"} == set(new) - set(shared)
    theirs = np.load(origin.run.best)
    num_by_token = 0
    for index, (variable, start) in enumerate(zip(model.trainable_variables, before, strict=True)):
        found, wanted = variable.numpy(), theirs[f"weights/{index}"]
        if found.shape == wanted.shape:
            np.testing.assert_array_equal(found, wanted)
            continue
        num_by_token += 1
        axis = found.shape.index(len(new))
        for place, piece in enumerate(new):
            source = np.take(wanted, old.index(piece), axis) if piece in old else None
            expected = np.take(start, place, axis) if source is None else source
            np.testing.assert_array_equal(np.take(found, place, axis), expected)
    assert num_by_token == 2 + (not tie_embeddings) * (1 + (task == "translation"))


def test_a_run_that_is_not_there_is_a_fault_of_its_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "models" / "zh-prose").mkdir(parents=True)
    (folder / "models" / "zh-prose" / "card.md").touch()
    monkeypatch.setattr(catalog, "FOLDER", folder / "models")
    for name, message in (
        ("zh-pros", r"my.yaml: init_from.run: There is no packaged model `zh-pros`\. Did you mean"),
        ("runs/x", r"my.yaml: init_from.run: Expected a run folder .* is not a folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_origin(config_of(folder, init_from=name), "my.yaml")
    assert open_origin(config_of(folder)) is None


def test_other_weights_than_the_config_expects_are_refused(folder: Path) -> None:
    run = untrained_run(folder)
    origin = open_origin(config_of(folder, init_from=str(run.path)))
    assert origin is not None
    init = {"run": str(run.path), "sha256": origin.sha256}
    assert open_origin(config_of(folder, init_from=init)) is not None
    run.best.write_bytes(run.best.read_bytes() + b" ")
    with pytest.raises(
        ConfigError, match=f"init_from.sha256: must be .* Received: {origin.sha256}"
    ):
        open_origin(config_of(folder, init_from=init))
