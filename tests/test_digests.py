"""Digests of texts, of files and of values."""

import gzip
import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from seq2seq_kit.digests import FileDigests, digest, read_verified, seal, unseal
from seq2seq_kit.errors import DataError, RunError


def test_a_text_has_the_digest_of_its_contents_packed_or_not(tmp_path: Path) -> None:
    content = "春天\n".encode() * 9999
    (tmp_path / "a.txt").write_bytes(content)
    for level in (1, 9):
        (tmp_path / f"{level}.gz").write_bytes(gzip.compress(content, level, mtime=level))
        assert FileDigests().of(tmp_path / f"{level}.gz") == hashlib.sha256(content).hexdigest()
    assert FileDigests().of(tmp_path / "a.txt") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", [None, gzip.compress(b"text", mtime=0)[:-3], b"\x1f\x8bno"])
def test_a_text_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.gz: expected a readable text file"):
        FileDigests().of(tmp_path / "a.gz")


def test_a_file_with_any_bit_flipped_is_refused(tmp_path: Path) -> None:
    content = b"some content"
    path = tmp_path / "file"
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(RunError, match=r"file is damaged or of another run"):
            read_verified(path, digest(content))
        assert read_verified(path, None) == changed
    path.write_bytes(content)
    assert read_verified(path, digest(content)) == content
    path.unlink()
    with pytest.raises(RunError, match=r"cannot be read \(No such file"):
        read_verified(path, None)


@pytest.mark.parametrize("values", [{}, {"a": 0.1 + 0.2, "b": [1, "ü"]}, {"b": None, "a": 1e-300}])
def test_sealed_values_are_unsealed_unless_one_is_another(values: dict[str, Any]) -> None:
    sealed = seal(values)
    assert unseal(sealed) == unseal(dict(reversed(sealed.items()))) == values
    for key in values:
        with pytest.raises(ValueError, match="not those that were written"):
            unseal({**sealed, key: "other"})
    with pytest.raises(ValueError, match="not those"):
        unseal({**sealed, "new": 1})
    # One bit of the name of the digest is another.
    renamed = {"digesu" if key == "digest" else key: value for key, value in sealed.items()}
    assert "digesu" in renamed
    with pytest.raises(ValueError, match="not those"):
        unseal(renamed)


def test_values_without_a_seal_are_of_an_older_version() -> None:
    assert unseal({"a": 1}) == {"a": 1}
    with pytest.raises(ValueError, match="not those"):
        unseal({"a": 1}, required=True)


def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"text"))
    digests = FileDigests()
    first = digests.of(path)
    monkeypatch.setattr(Path, "open", None)
    assert digests.of(path) == first == digest(b"text")
    digests.check_unchanged([path])


@pytest.mark.parametrize("change", ["append", "rewrite", "replace", "remove"])
def test_a_changed_file_is_noticed(tmp_path: Path, change: str) -> None:
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("one\n")
    digests = FileDigests()
    digests.of(path)
    time.sleep(0.02)  # File systems round times to some milliseconds.
    if change == "append":
        with path.open("a") as file:
            file.write("two\n")
    elif change == "rewrite":
        path.write_text("two\n")
    elif change == "replace":
        other.write_text("two\n")
        shutil.copystat(path, other)
        other.replace(path)
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"a\.txt: the file changed while it was in use"):
        digests.check_unchanged([path])


def test_a_file_that_changes_while_it_is_hashed_has_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n")

    def hash_and_append(file: Any, name: str) -> Any:
        found = file_digest(file, name)
        path.write_text("one\ntwo\n")
        return found

    file_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", hash_and_append)
    with pytest.raises(DataError, match="changed while it was in use"):
        FileDigests().of(path)
