"""The tokenizers of a run: one or two, trained once for the same texts."""

import stat
from pathlib import Path
from typing import Any

import pytest
from small_config import config_of

from seq2seq_kit.config import load_config
from seq2seq_kit.data.tokenizers import build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import DataError
from seq2seq_kit.tokens.tokenizer import Tokenizer


def letters(tokenizer: Tokenizer) -> set[str]:
    return set("".join(tokenizer.pieces[4:])) & set("abxyz")


def test_one_tokenizer_learns_both_sides(folder: Path) -> None:
    tokenizers = build_tokenizers(config_of(folder), FileDigests())
    assert tokenizers.source is tokenizers.target
    assert letters(tokenizers.target) == set("abxyz")


def test_two_tokenizers_learn_a_side_each(folder: Path) -> None:
    side = {"type": "char", "vocab_size": 40, "byte_fallback": False}
    bpe = side | {"type": "bpe", "vocab_size": 12}
    tokenizers = build_tokenizers(
        config_of(folder, tokenizer={"source": side, "target": bpe}), FileDigests()
    )
    assert letters(tokenizers.source) == set("ab")
    assert letters(tokenizers.target) == set("xyz")
    assert max(map(len, tokenizers.source.pieces[4:])) == 1
    assert max(map(len, tokenizers.target.pieces[4:])) > 1


def test_a_ready_tokenizer_is_taken_as_it_is(folder: Path) -> None:
    ready = Tokenizer.train(["uvw"] * 9, type="char", vocab_size=8, byte_fallback=False)
    ready.save(folder / "ready.model")
    config = config_of(folder, tokenizer={"model": str(folder / "ready.model")})
    assert build_tokenizers(config, FileDigests()).source.fingerprint == ready.fingerprint


def test_a_tokenizer_is_trained_once_for_the_same_texts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*args: Any, **options: Any) -> None:
        raise AssertionError("trained again")

    first = build_tokenizers(config_of(folder), FileDigests())
    monkeypatch.setattr(Tokenizer, "train", train)
    again = build_tokenizers(config_of(folder), FileDigests())
    assert again.source.fingerprint == first.source.fingerprint
    (folder / "train.tsv").write_text("other\ttexts\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="trained again"):
        build_tokenizers(config_of(folder), FileDigests())


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_tokenizer_of_the_cache_is_trained_again(
    folder: Path, cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(folder, seed=7, tokenizer={"type": "char", "vocab_size": 290})
    before = set(cache.iterdir())
    first = build_tokenizers(config, FileDigests())
    (path,) = set(cache.iterdir()) - before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    flipped = content[:200] + bytes([content[200] ^ 4]) + content[201:]
    path.write_bytes({"flip": flipped, "cut": content[:-9], "empty": b""}[damage])
    again = build_tokenizers(config, FileDigests())
    assert again.source.fingerprint == first.source.fingerprint
    assert path.read_bytes() == content
    assert "is damaged; making it again" in caplog.text
    path.unlink()


def test_a_file_that_changes_while_a_tokenizer_learns_from_it_is_an_error(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*args: Any, **options: Any) -> Tokenizer:
        (folder / "train.tsv").write_text("other\ttexts\n", encoding="utf-8")
        return trained

    trained = Tokenizer.train(["ab"], type="char", vocab_size=8, byte_fallback=False)
    monkeypatch.setattr(Tokenizer, "train", train)
    before = set(cache.iterdir())
    (folder / "train.tsv").write_text("new\ttext\n" * 9, encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.tsv: the file changed while it was in use"):
        build_tokenizers(config_of(folder), FileDigests())
    assert set(cache.iterdir()) == before


@pytest.mark.parametrize("kind", ["unigram", "bpe", "word", "char"])
def test_a_vocabulary_smaller_than_requested_is_reported_each_time(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pairs.tsv").write_text("a rose\tis a rose\n" * 9, encoding="utf-8")
    data = {"train": str(tmp_path / "pairs.tsv")}
    config = load_config({"data": data, "tokenizer": {"type": kind, "vocab_size": 7000}})
    for _ in ("trained", "from the cache"):
        caplog.clear()
        size = build_tokenizers(config, FileDigests()).target.vocab_size
        (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert size < 7000
        assert f"the vocabulary has {size}." in warning.getMessage()
