"""The parts of `make quickstart` that need no training; the whole is a command, not a test."""

import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from seq2seq_kit.samples.quickstart import longest_copied_span, main


def all_spans(text: str) -> set[str]:
    return {text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)}


@pytest.mark.parametrize("seed", range(20))
def test_longest_copied_span_agrees_with_comparing_all_spans(seed: int) -> None:
    draw = random.Random(seed)
    text, source = ("".join(draw.choices("春天到", k=size)) for size in (12, 40))
    common = all_spans(text) & all_spans(source)
    span = longest_copied_span(text, source)
    assert span in common
    assert len(span) == max(map(len, common))


@pytest.mark.parametrize(
    ("text", "source", "span"),
    [("", "abc", ""), ("abc", "", ""), ("xyz", "abc", ""), ("ab\ncd", "zabcdz", "abcd")],
)
def test_longest_copied_span_of_odd_texts(text: str, source: str, span: str) -> None:
    assert longest_copied_span(text, source) == span


def test_a_second_quickstart_shows_the_first_ones_report_and_how_to_train_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "report.txt").write_text("BLEU 99.9\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["--folder", str(tmp_path)])
    assert result.exit_code == 0
    assert "BLEU 99.9" in result.output
    assert "FRESH=1" in result.output
