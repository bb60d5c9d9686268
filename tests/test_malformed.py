"""Damaged, forged and odd files: one clear error; no endless loop, no exhausted memory."""

import gzip
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TrainedRun

from seq2seq_kit import bounds
from seq2seq_kit.archive import load_archive, save_archive
from seq2seq_kit.cli.text_io import read_in_chunks
from seq2seq_kit.config import CorpusConfig, ModelConfig, load_config
from seq2seq_kit.data.encode import LengthLimits
from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.data.entries import encode_corpora
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import FileDigests, seal, unseal
from seq2seq_kit.errors import ConfigError, DataError, InputError, RunError
from seq2seq_kit.export.safety import checked_copy
from seq2seq_kit.model.build import build_model
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.text.checks import check_files
from seq2seq_kit.text.corpus import read_corpus
from seq2seq_kit.text.lines import read_lines
from seq2seq_kit.tokens.proto import ModelProto
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training.checkpoint import assign_variables
from seq2seq_kit.training.records import read_metrics
from seq2seq_kit.training.run_folder import RunFolder, read_json

TEXTS = ["a b c d", "hello world", "春天 来了"] * 30


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe that nobody writes to: opening it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize(
    "train",
    [{"tsv": "pipe"}, {"source": "pipe", "target": "pipe"}, {"tsv": "/dev/zero"}],
)
def test_a_corpus_that_cannot_be_read_again_is_refused(pipe: Path, train: dict[str, str]) -> None:
    config = load_config({"data": {"root": str(pipe.parent), "train": train}})
    with pytest.raises(ConfigError, match=r"data.train: .* (named pipe|device)"):
        check_files(config)


def test_a_tokenizer_model_that_cannot_be_read_again_is_refused(pipe: Path) -> None:
    (pipe.parent / "a.tsv").write_text("a\tb\n")
    config = load_config(
        {"data": {"train": str(pipe.parent / "a.tsv")}, "tokenizer": {"model": str(pipe)}}
    )
    with pytest.raises(ConfigError, match=r"tokenizer.model: must be a file.* named pipe"):
        check_files(config)
    with pytest.raises(ConfigError, match="named pipe"):
        Tokenizer.load(pipe)


@pytest.mark.parametrize("is_gzip", [False, True])
def test_a_line_without_end_is_read_only_to_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gzip: bool
) -> None:
    monkeypatch.setattr(bounds, "MAX_LINE_BYTES", 1000)
    data = b"one\n" + bytes(999) + b"\n" + bytes(100_000)
    (tmp_path / "zeros").write_bytes(gzip.compress(data) if is_gzip else data)
    lines = read_lines(tmp_path / "zeros")
    assert next(lines) == "one"
    assert len(next(lines)) == 999
    with pytest.raises(DataError, match="line 3: expected a line of at most 1,000 bytes"):
        next(lines)


def test_a_device_without_lines_ends_generation_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MAX_LINE_BYTES", 10**6)
    with pytest.raises(DataError, match="/dev/zero, line 1: expected a line of at most"):
        next(read_in_chunks(Path("/dev/zero")))


@pytest.mark.parametrize(("sources", "targets"), [(2, 5), (5, 2), (0, 1)])
def test_different_numbers_of_lines_are_counted_in_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: int, targets: int
) -> None:
    (tmp_path / "a").write_bytes(b"x\n" * sources)
    (tmp_path / "b").write_bytes(b"x\n" * targets)
    opened = []
    plain_open = Path.open

    def open_and_note(path: Path, *arguments: Any) -> Any:
        opened.append(path.name)
        return plain_open(path, *arguments)

    monkeypatch.setattr(Path, "open", open_and_note)
    with pytest.raises(DataError, match=f"a has {sources} and .*b has {targets}"):
        list(read_corpus(CorpusConfig(source=tmp_path / "a", target=tmp_path / "b")))
    assert sorted(opened) == ["a", "b"]


def forged(change: Callable[[Any], None]) -> bytes:
    """A tokenizer model with something changed in it."""
    model = ModelProto.FromString(Tokenizer.train(TEXTS, vocab_size=300).model_proto)
    change(model)
    return bytes(model.SerializeToString())


def set_score(model: Any, score: float) -> None:
    model.pieces[270].score = score


@pytest.mark.parametrize(
    "change",
    [
        lambda model: set_score(model, float("nan")),
        lambda model: set_score(model, float("inf")),
        lambda model: setattr(model.pieces[270], "piece", ""),
        lambda model: setattr(model.pieces[270], "piece", model.pieces[271].piece),
        lambda model: setattr(model.pieces[270], "piece", "x" * 10**6),
        lambda model: model.ClearField("pieces"),
    ],
    ids=["NaN", "infinite", "empty piece", "same piece twice", "a MB long", "no pieces"],
)
def test_forged_tokenizer_models_are_refused(change: Callable[[Any], None]) -> None:
    with pytest.raises(ConfigError, match="Expected a SentencePiece model"):
        Tokenizer(forged(change))


def test_a_tokenizer_model_of_too_many_pieces_or_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.model").write_bytes(forged(lambda model: None))
    monkeypatch.setattr(bounds, "MAX_VOCAB_SIZE", 200)
    with pytest.raises(ConfigError, match=r"it has 2\d\d pieces"):
        Tokenizer.load(tmp_path / "a.model")
    monkeypatch.setattr(bounds, "MAX_MODEL_BYTES", 1000)
    with pytest.raises(ConfigError, match="bytes are too many"):
        Tokenizer.load(tmp_path / "a.model")


@pytest.mark.parametrize("vocab_size", [1_000_001, 2**31, 2**63])
def test_a_vocabulary_beyond_its_bound_is_refused_in_python_too(vocab_size: int) -> None:
    with pytest.raises(ConfigError, match="`vocab_size` must be 1000000 or less"):
        Tokenizer.train(TEXTS, vocab_size=vocab_size)


def test_a_piece_that_is_not_utf8_is_refused() -> None:
    data = forged(lambda model: None)
    with pytest.raises(ConfigError, match="Expected a SentencePiece model"):
        Tokenizer(data.replace("春".encode(), b"\xff\xfe\xfd"))


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (lambda array: np.full_like(array, np.nan), "not finite"),
        (
            lambda array: np.where(
                np.arange(array.size).reshape(array.shape) == 1, np.inf, array
            ).astype(array.dtype),
            "not finite",
        ),
        (
            lambda array: array.astype(np.float64),
            "should have type float32, but has type float64",
        ),
        (lambda array: array.astype(np.complex64), "has type complex64"),
        (lambda array: array.astype("S4"), "has type"),
        (lambda array: array[:-1], "should have the shape"),
    ],
)
def test_forged_weights_are_refused_and_change_nothing(
    tmp_path: Path, array: Callable[[np.ndarray], np.ndarray], fault: str
) -> None:
    model = build_model(ModelConfig(architecture="language_model", units=4, embedding_dim=4), 9)
    variables = model.trainable_variables
    before = [variable.numpy() for variable in variables]
    arrays = {f"weights/{place}": value + 1 for place, value in enumerate(before)}
    arrays["weights/0"] = array(arrays["weights/0"])
    save_archive(tmp_path / "best.npz", arrays.items(), {})
    with pytest.raises(RunError, match=fault):
        assign_variables(variables, load_archive(tmp_path / "best.npz"), "weights")
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "best.npz", np.zeros(10**6))
    with pytest.raises(RunError, match="is damaged"):
        load_archive(tmp_path / "best.npz")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("frequent", np.array([4, 16], np.int32)),
        ("frequent", np.array([-1], np.int32)),
        ("frequent", np.array([4], np.int64)),
        ("translations", np.full((16, 3), 16, np.int32)),
        ("translations", np.full((3, 3), 5, np.int32)),
        ("translations", np.full(20, 5, np.int32)),
        ("translations", None),
    ],
)
def test_a_forged_shortlist_is_refused(
    translation_run: TrainedRun, tmp_path: Path, name: str, array: np.ndarray | None
) -> None:
    folder = shutil.copytree(translation_run.path, tmp_path / "run")
    shortlist = Shortlist.load(folder / "shortlist.npz")
    arrays = {"frequent": shortlist.frequent, "translations": shortlist.translations}
    kept = {key: value for key, value in (arrays | {name: array}).items() if value is not None}
    save_archive(folder / "shortlist.npz", kept.items(), {})
    with pytest.raises(RunError, match=r"shortlist.npz is (damaged|not of this run's vocab)"):
        Seq2Seq.load(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "[1]", "", "\0", "NaN"])
def test_json_that_holds_no_values_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RunError, match=r"results.json is damaged"):
        read_json(tmp_path / "results.json")


def test_json_in_a_pipe_is_refused(pipe: Path) -> None:
    with pytest.raises(RunError, match="named pipe"):
        read_json(pipe)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"epoch": 1}', '{"step": [1]}', "3", "\0"])
def test_a_damaged_line_of_the_history_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    good = json.dumps({"step": 1})
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{line}\n")
    assert read_metrics(RunFolder(tmp_path)) == [{"step": 1}]
    assert "metrics.jsonl, line 2 is damaged" in caplog.text


def encode_texts(folder: Path) -> tuple[EncodedData, Path]:
    """Encoded texts, and the folder of their entry in the cache."""
    (folder / "texts").write_text("\n".join(TEXTS[:9]), encoding="utf-8")
    tokenizer = Tokenizer.train(TEXTS, type="char", vocab_size=40, byte_fallback=False)
    data = encode_corpora(
        [CorpusConfig(lines=folder / "texts")],
        Tokenizers(tokenizer, tokenizer),
        LengthLimits(50, 50, "skip"),
        FileDigests(),
    )
    (entry,) = {path.parent for path in folder.rglob("ids.bin")}
    return data, entry


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("ids.bin", 3, 40_000),
        ("bounds.bin", 4, -5),
        ("bounds.bin", 4, 10**9),
        ("bounds.bin", -1, 10**6),
    ],
)
def test_forged_ids_in_the_cache_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: int, value: int
) -> None:
    monkeypatch.setenv("S2S_CACHE_DIR", str(tmp_path / "cache"))
    before, entry = encode_texts(tmp_path)
    expected = [before.target[row].tolist() for row in range(len(before))]
    description = unseal(json.loads((entry / "entry.json").read_text(encoding="utf-8")))
    array = np.fromfile(entry / name, description["arrays"][name]["dtype"])
    array[place] = value
    array.tofile(entry / name)
    description["arrays"][name]["crc32"] = zlib.crc32(array.tobytes())
    (entry / "entry.json").write_text(json.dumps(seal(description)), encoding="utf-8")
    after, _ = encode_texts(tmp_path)
    assert [after.target[row].tolist() for row in range(len(after))] == expected


def test_a_pipe_in_the_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2S_CACHE_DIR", str(tmp_path / "cache"))
    _, entry = encode_texts(tmp_path)
    (entry / "bounds.bin").unlink()
    os.mkfifo(entry / "bounds.bin")
    assert len(encode_texts(tmp_path)[0]) == 9


def test_an_export_with_a_pipe_among_its_variables_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seq2seq_kit.export.safety.check_saved_model", lambda _path: b"")
    (tmp_path / "variables").mkdir()
    os.mkfifo(tmp_path / "variables" / "variables.data-00000-of-00001")
    with pytest.raises(InputError, match="named pipe"), checked_copy(tmp_path):
        pass
