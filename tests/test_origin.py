"""Training that starts from the weights of another run."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_config import config_of
from untrained import untrained_run

from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers, build_tokenizers
from seq2seq_kit.digests import FileDigests, digest_file
from seq2seq_kit.errors import ConfigError, InputError
from seq2seq_kit.model.build import build_network
from seq2seq_kit.pretrained import catalog
from seq2seq_kit.special_ids import EOS_ID
from seq2seq_kit.training.origin import Origin, open_origin, start_from
from seq2seq_kit.training.run_folder import RunFolder
from seq2seq_kit.training.start import RunStart, complete_config, start_run

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
        (
            "zh-pros",
            r"init_from.run: There is no folder zh-pros .* `zh-pros`\. Did you mean",
        ),
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


def begin(folder: Path, name: str, *, resume: bool = False, **sections: Any) -> RunStart:
    """What `fit` does before the first step, in the run folder `name`."""
    run = RunFolder(folder / name)
    run.path.mkdir(exist_ok=True)
    config = complete_config(config_of(folder, **sections), run, resume=resume, name="my.yaml")
    return start_run(run, config, tf.distribute.get_strategy(), resume=resume)


def test_a_started_run_says_what_it_started_from_and_needs_it_no_more(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    origin = untrained_run(folder)
    few = {"root": str(folder), "train": "dev.tsv", "validation": "dev.tsv"}
    sections = {"init_from": str(origin.path), "tokenizer": None, "model": None, "data": few}
    with caplog.at_level(logging.INFO):
        start = begin(folder, "new", **sections)
    assert "model.units 8" in caplog.text
    np.testing.assert_array_equal(
        start.model.trainable_variables[0].numpy(), np.load(origin.best)["weights/0"]
    )
    saved = (folder / "new" / "config.yaml").read_text()
    assert "run: ../run\n" in saved
    assert f"sha256: {digest_file(origin.best)}\n" in saved
    shutil.rmtree(origin.path)
    with caplog.at_level(logging.WARNING):
        begin(folder, "new", resume=True, **sections)
    assert "init_from.run: Expected a run folder" in caplog.text
    assert "is resumed anyway" in caplog.text


def test_the_shortlist_of_a_run_is_added_to_that_of_few_texts(folder: Path) -> None:
    origin = untrained_run(folder)
    few = {"root": str(folder), "train": "dev.tsv", "validation": "dev.tsv"}
    start = begin(folder, "new", init_from=str(origin.path), tokenizer=None, data=few)
    known = Shortlist.load(origin.shortlist)
    assert start.shortlist is not None
    for row, wanted in zip(start.shortlist.translations, known.translations, strict=True):
        assert set(wanted) <= set(row)
    assert set(known.frequent) <= set(start.shortlist.frequent)
    assert len(set(start.shortlist.frequent)) == len(start.shortlist.frequent)


def test_an_error_that_refuses_other_texts_names_init_from(folder: Path) -> None:
    untrained_run(folder)
    begin(folder, "run", resume=True)
    (folder / "dev.tsv").write_text("b\tyz\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"with other texts:[^`]*`init_from: .*run`"):
        begin(folder, "run", resume=True)
    with pytest.raises(InputError, match=r"with other settings:[^`]*`init_from: .*run`"):
        begin(folder, "run", resume=True, model={"units": 16, "embedding_dim": 4})


def test_a_new_run_starts_by_guessing_tokens_as_often_as_they_occur(folder: Path) -> None:
    start = begin(folder, "new")
    guesses = np.exp(start.model.output_bias.numpy())
    lines = (folder / "train.tsv").read_text(encoding="utf-8").splitlines()
    counts = np.ones(len(guesses))
    for line in lines:
        for token in start.tokenizers.target.encode([line.split("\t")[1]])[0]:
            counts[token] += 1
    counts[EOS_ID] += len(lines)
    np.testing.assert_allclose(guesses, counts / counts.sum(), rtol=1e-5)
