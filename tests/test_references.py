"""Test sets: sources with their references."""

from pathlib import Path

import pytest

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.errors import DataError
from seq2seq_kit.text.references import read_parallel_references, read_table_references


def test_files_whose_names_are_not_utf8_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9"
    path.write_text("ab\n", encoding="utf-8")
    (answer,) = read_parallel_references(path, [path])
    assert (answer.source, answer.references) == ("ab", ["ab"])


def test_each_file_of_references_gives_one_for_each_line(tmp_path: Path) -> None:
    for name, text in {"in": "a\nb\n", "first": "1\n2\n", "second": "x\ny\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    references = [tmp_path / "first", tmp_path / "second"]
    answers = read_parallel_references(tmp_path / "in", references)
    assert [tuple(answer) for answer in answers] == [(1, "a", ["1", "x"]), (2, "b", ["2", "y"])]


def test_a_file_of_another_length_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "short").write_text("1\n", encoding="utf-8")
    with pytest.raises(DataError, match="short"):
        read_parallel_references(tmp_path / "in", [tmp_path / "short"])


def test_rows_with_one_source_are_its_references(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("1\ta\n2\tb\n3\tA\n\n", encoding="utf-8")
    columns = CorpusConfig(tsv="train.tsv", source_columns=(2,), target_columns=(1,))
    answers = read_table_references(tmp_path / "test.tsv", columns, str.lower)
    assert [tuple(answer) for answer in answers] == [(1, "a", ["1", "3"]), (2, "b", ["2"])]


def test_without_a_training_tsv_columns_1_and_2_are_read(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("a\t1\n", encoding="utf-8")
    trained_on = CorpusConfig(source="train.de", target="train.en")
    (answer,) = read_table_references(tmp_path / "test.tsv", trained_on, str)
    assert (answer.source, answer.references) == ("a", ["1"])


def test_references_in_csv_and_jsonl_are_found_by_the_name(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text('a,"x, y"\na,z\n', encoding="utf-8")
    (tmp_path / "test.jsonl").write_text('{"en": "z", "de": "a"}\n', encoding="utf-8")
    by_name = {"source_columns": "de", "target_columns": "en"}
    trained_on = CorpusConfig.model_validate({"jsonl": tmp_path / "train.jsonl", **by_name})
    (answer,) = read_table_references(tmp_path / "test.csv", trained_on, str)
    assert answer.references == ["x, y", "z"]
    (answer,) = read_table_references(tmp_path / "test.jsonl", trained_on, str)
    assert (answer.source, answer.references) == ("a", ["z"])
