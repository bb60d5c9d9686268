"""`s2s evaluate`: references by line and by source."""

import json
import math
import os
import re
from pathlib import Path

import pytest
from backwards import Backwards

from seq2seq_kit.cli import main
from seq2seq_kit.config import load_config


@pytest.mark.usefixtures("answers")
def test_evaluate_takes_the_options_of_a_search(backwards: Backwards, tmp_path: Path) -> None:
    (tmp_path / "both.tsv").write_text("ab\tba\n", encoding="utf-8")
    options = ["--beam-size", "2", "--no-repeat-ngram", "3", "--no-shortlist"]
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "both.tsv"), *options]) == 0
    given = {name: value for name, value in backwards.calls[0].items() if value is not None}
    assert given == {"beam_size": 2, "no_repeat_ngram": 3, "shortlist": False}


@pytest.mark.usefixtures("answers")
def test_evaluate_counts_outputs_that_were_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.tsv").write_text("ba\t~ab\nc\tc\n", encoding="utf-8")
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "pairs.tsv"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["cut_outputs"] == 1
    assert "1 of 2 outputs were cut at 100 tokens" in captured.err


def test_evaluate_takes_several_references_by_line(
    answers: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"in": "abc\nde\n", "first": "cba\nxx\n", "second": "zz\ned\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    options = ["--reference", str(tmp_path / "first"), "--reference", str(tmp_path / "second")]
    assert main(["evaluate", "run", "--source", str(tmp_path / "in"), *options, "--json"]) == 0
    assert answers == [["abc", "cba", "zz"], ["de", "xx", "ed"]]
    results = json.loads(capsys.readouterr().out)
    assert results["exact_match"] == 100.0
    # Two lines of -2 nats each, over 3 + 2 tokens and over one word and a line end each.
    assert results["perplexity_per_token"] == pytest.approx(math.exp(4 / 5))
    assert results["perplexity_per_word"] == pytest.approx(math.exp(4 / 4))


@pytest.mark.usefixtures("answers")
def test_evaluate_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text("abc\nde\n", encoding="utf-8")
    (tmp_path / "out").write_text("cba\nxx\n", encoding="utf-8")
    files = ["--source", str(tmp_path / "in"), "--reference", str(tmp_path / "out")]
    assert main(["evaluate", "run", *files]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^exact match +50\.00 %$", shown, re.MULTILINE)
    assert re.search(r"^perplexity per word +\d", shown, re.MULTILINE)
    (tmp_path / "out").write_text("春天到了\n万物复苏\n", encoding="utf-8")
    assert main(["evaluate", "run", *files]) == 0
    assert "per word" not in capsys.readouterr().out
    assert main(["evaluate", "run", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["perplexity_per_word"] is None


def test_evaluate_groups_the_rows_of_a_source(answers: list[list[str]], tmp_path: Path) -> None:
    # The columns are those that the run was trained on: source second, target first.
    rows = "cba\tabc\ned\tde\nzz\tabc\n\n"  # The blank line at the end is no pair.
    (tmp_path / "test.tsv").write_text(rows, encoding="utf-8")
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "test.tsv")]) == 0
    assert answers == [["abc", "cba", "zz"], ["de", "ed"]]


def test_evaluate_groups_the_spellings_of_a_source(
    answers: list[list[str]], tmp_path: Path
) -> None:
    (tmp_path / "test.tsv").write_text("cba\tabc\nzz\t\ufeffabc\n", encoding="utf-8")
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "test.tsv")]) == 0
    assert answers == [["abc", "cba", "zz"]]


@pytest.mark.usefixtures("answers")
def test_evaluate_refuses_a_row_with_another_number_of_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.tsv").write_text("cba\tabc\ned\td\te\nzz\tzz\n", encoding="utf-8")
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "test.tsv")]) == 2
    assert "test.tsv, line 2: expected 2 columns" in capsys.readouterr().err


def test_evaluate_counts_the_rows_that_a_run_skips(
    answers: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = {"data": {"train": {"tsv": "x", "source_columns": 2, "target_columns": 1}}}
    config["data"]["train"]["bad_lines"] = "skip"
    monkeypatch.setattr(Backwards, "config", load_config(config))
    (tmp_path / "test.tsv").write_text("cba\tabc\ned\td\te\nzz\tabc\n", encoding="utf-8")
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "test.tsv")]) == 0
    assert answers == [["abc", "cba", "zz"]]
    shown = capsys.readouterr().err
    assert "1 rows with another number of columns were skipped (lines 2)." in shown


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize(
    "options", [["evaluate", "--source", "--reference"], ["score", "--source", "--target"]]
)
def test_over_long_sources_are_refused_by_file_and_line_or_counted(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("ab\n" + 21 * "x" + "\n", encoding="utf-8")
    (tmp_path / "out").write_text("ba\nx\n", encoding="utf-8")
    command, source, target = options
    files = [source, str(tmp_path / "in"), target, str(tmp_path / "out")]
    assert main([command, "run", *files]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        f"{tmp_path / 'in'}, line 2: the input has 105 tokens; the model takes at most"
        in captured.err
    )
    assert main([command, "run", *files, "--long-lines", "truncate"]) == 0
    assert "1 over-long input was truncated." in capsys.readouterr().err


@pytest.mark.usefixtures("answers")
def test_an_over_long_input_of_a_tsv_has_the_line_of_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "ba\tab\nxx\tab\nyy\t" + 21 * "y" + "\n"
    (tmp_path / "test.tsv").write_text(rows, encoding="utf-8")
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "test.tsv")]) == 2
    assert "test.tsv, line 3: the input has 105 tokens" in capsys.readouterr().err


@pytest.mark.usefixtures("answers")
def test_a_source_in_a_pipe_is_refused_where_it_is_read_for_each_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").write_text("a\n", encoding="utf-8")
    references = ["--reference", str(tmp_path / "out")] * 2
    assert main(["evaluate", "run", "--source", str(tmp_path / "pipe"), *references]) == 2
    assert "is read once for each reference, but it is a named pipe" in capsys.readouterr().err


@pytest.mark.usefixtures("answers")
def test_evaluate_refuses_an_empty_file_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").touch()
    path = str(tmp_path / "in")
    assert main(["evaluate", "run", "--source", path, "--reference", path]) == 2
    assert f"{path}: expected at least one line" in capsys.readouterr().err


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize(("options", "is_said"), [(["--sample"], True), (["--greedy"], False)])
def test_evaluate_says_that_outputs_are_samples(
    options: list[str], is_said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "both.tsv").write_text("ab\tba\n", encoding="utf-8")
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "both.tsv"), *options]) == 0
    assert ("random samples" in capsys.readouterr().err) == is_said
