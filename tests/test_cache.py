"""The cache folder: where it is, and what its keys depend on."""

from pathlib import Path

import pytest
from letters import encode_letters, write_tsv

from seq2seq_kit.data.cache import cache_folder, describe_corpus
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import InputError, RunError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("S2S_CACHE_DIR", str(folder))
    return folder


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file, not a folder")
    with pytest.raises(RunError, match=r"cache, which cannot be written to .*Set S2S_CACHE_DIR"):
        encode_letters(write_tsv(tmp_path / "a.tsv", ("a", "b")))


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"S2S_CACHE_DIR": "c", "XDG_CACHE_HOME": "x"}, "c"),
        ({"S2S_CACHE_DIR": "", "XDG_CACHE_HOME": "x"}, "x/seq2seq_kit"),
        ({"S2S_CACHE_DIR": "", "XDG_CACHE_HOME": ""}, "home/.cache/seq2seq_kit"),
    ],
)
def test_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], folder: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value) if value else "")
    assert cache_folder() == tmp_path / folder
    assert cache_folder().is_dir()


def test_the_description_of_a_corpus_has_no_path(tmp_path: Path) -> None:
    first = write_tsv(tmp_path / "a.tsv", ("a", "b"))
    second = write_tsv(tmp_path / "b.tsv", ("a", "b"))
    digests = FileDigests()
    assert describe_corpus(first, digests) == describe_corpus(second, digests)
    assert str(tmp_path) not in str(describe_corpus(first, digests))


def test_an_error_tells_a_user_without_a_home_folder_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("S2S_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(InputError, match=r"has no home folder.*Set S2S_CACHE_DIR"):
        cache_folder()
    monkeypatch.setenv("S2S_CACHE_DIR", "~nosuchuser/cache")
    with pytest.raises(InputError, match="`~nosuchuser` is not the home folder"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("S2S_CACHE_DIR")
    assert cache_folder() == tmp_path / "seq2seq_kit"
