"""Corpora as pairs: against pairs written by hand."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.errors import ConfigError, DataError
from seq2seq_kit.text.corpus import Pair, check_corpus, read_corpus, read_pairs


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def parallel(tmp_path: Path, source: bytes | str, target: bytes | str) -> CorpusConfig:
    return CorpusConfig(
        source=write(tmp_path / "corpus.en", source), target=write(tmp_path / "corpus.de", target)
    )


def test_parallel_files_pair_by_line(tmp_path: Path) -> None:
    corpus = parallel(tmp_path, "one\n\nthree\x0c\n", "eins\r\nzwei\n\u2028drei")
    assert list(read_corpus(corpus)) == [
        Pair(1, "one", "eins"),
        Pair(2, "", "zwei"),
        Pair(3, "three\x0c", "\u2028drei"),
    ]
    assert check_corpus(corpus) == []


@pytest.mark.parametrize(("num_sources", "num_targets"), [(2, 5), (5, 2), (0, 1)])
def test_different_line_counts_are_an_error_with_both_counts(
    tmp_path: Path, num_sources: int, num_targets: int
) -> None:
    corpus = parallel(tmp_path, "a\n" * num_sources, "b\n" * num_targets)
    with pytest.raises(DataError) as error:
        list(read_corpus(corpus))
    message = str(error.value)
    assert f"corpus.en has {num_sources} and" in message
    assert f"corpus.de has {num_targets}: line {min(num_sources, num_targets) + 1} " in message
    assert check_corpus(corpus) == [message]


@pytest.mark.parametrize("kind", ["lines", "text"])
def test_texts_of_one_side_are_targets(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "poems.txt", "one\n\n  two \n")
    corpus = CorpusConfig.model_validate({kind: path})
    assert list(read_corpus(corpus)) == [Pair(1, "", "one"), Pair(2, "", ""), Pair(3, "", "  two ")]
    assert check_corpus(corpus) == []


def test_check_gathers_the_faults_of_both_sides(tmp_path: Path) -> None:
    corpus = CorpusConfig(
        source=tmp_path / "missing.en", target=write(tmp_path / "latin1.de", b"a\n\xfc\n")
    )
    faults = check_corpus(corpus)
    assert len(faults) == 2
    assert "missing.en" in faults[0]
    assert "latin1.de, line 2" in faults[1]


def test_check_finds_empty_files(tmp_path: Path) -> None:
    assert len(check_corpus(parallel(tmp_path, "", ""))) == 2
    path = write(tmp_path / "text.txt", "")
    assert check_corpus(CorpusConfig(text=path)) == [
        f"{path}: expected at least one line of text, but there is none."
    ]


def test_a_corpus_without_files_is_a_config_error() -> None:
    corpus = CorpusConfig.model_construct()
    with pytest.raises(ConfigError, match="must name `source` and `target`"):
        read_corpus(corpus)


CORPORA = {
    "parallel": {"source": "a.txt", "target": "b.gz"},
    "tsv": {"tsv": "c.tsv", "header": True, "source_columns": ["x", "z"], "target_columns": "y"},
    "tsv without a header": {"tsv": "c.tsv", "source_columns": 3},
    "lines": {"lines": "a.txt"},
}


@pytest.mark.parametrize("options", CORPORA.values(), ids=CORPORA.keys())
@pytest.mark.parametrize("lines", [[], [2], [2, 3, 6], [2, 3, 4, 5, 6]])
def test_chosen_pairs_are_those_of_the_whole_corpus(
    tmp_path: Path, options: dict[str, Any], lines: list[int]
) -> None:
    write(tmp_path / "a.txt", "".join(f"source {number}\r\n" for number in range(6)))
    (tmp_path / "b.gz").write_bytes(gzip.compress("".join(f"t{n}\n" for n in range(6)).encode()))
    write(tmp_path / "c.tsv", "x\ty\tz\n" + "".join(f"a{n}\tb{n}\tc{n}\n" for n in range(5)))
    keys = {"source", "target", "tsv", "lines"} & options.keys()
    corpus = CorpusConfig(**options | {key: tmp_path / options[key] for key in keys})
    expected = [pair for pair in read_corpus(corpus) if pair.line in lines]
    assert list(read_pairs(corpus, lines)) == expected
    assert len(expected) == len(lines)
