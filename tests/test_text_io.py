"""Lines in and out of the commands, on texts of all kinds."""

import io
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from seq2seq_kit.cli import text_io
from seq2seq_kit.cli.text_io import escape, has_many_lines, read_in_chunks

FEW = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Unlikely draws that matter here: escapes, line ends of other systems, half-made escapes.
TEXTS = strategies.text() | strategies.text(alphabet="\\n\n\r\u2028a")


def unescape(line: str) -> str:
    """The text of a line, read from left to right."""
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), line)


@FEW
@given(TEXTS)
def test_an_escaped_text_is_one_line_and_comes_back(text: str) -> None:
    assert "\n" not in escape(text)
    assert unescape(escape(text)) == text


@FEW
@given(TEXTS, TEXTS)
def test_different_texts_have_different_lines(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@FEW
@given(
    lines=strategies.lists(
        strategies.text(alphabet=strategies.characters(exclude_categories=["Cs"])).map(
            lambda text: text.replace("\n", " ").replace("\ufeff", " ").rstrip("\r")
        ),
        max_size=7,
    ),
    ends_with_newline=strategies.booleans(),
    at_once=strategies.integers(1, 3),
)
def test_standard_input_gives_its_lines_in_order(
    lines: list[str], ends_with_newline: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A last line that is empty needs its newline, or it is none.
    data = "\n".join(lines) + "\n" * bool(lines and (ends_with_newline or not lines[-1]))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.encode()), encoding="ascii"))
        patch.setattr(text_io, "LINES_AT_ONCE", at_once)
        chunks = list(read_in_chunks(None))
    assert [line for _, chunk in chunks for line in chunk] == lines
    begins = [number for number, _ in chunks]
    assert begins == [1 + at_once * place for place in range(len(begins))]


def test_a_named_file_gives_the_same_lines_as_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"\xef\xbb\xbfone\r\ntwo\rthree\n\nlast"
    (tmp_path / "in").write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))
    lines = ["one", "two\rthree", "", "last"]
    assert [line for _, chunk in read_in_chunks(None) for line in chunk] == lines
    assert list(read_in_chunks(tmp_path / "in")) == [(1, lines)]


def test_only_a_large_file_is_known_to_have_many_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_text("a line\n" * 4000)
    small.write_text("a line\n")
    assert has_many_lines(large)
    assert not has_many_lines(small)
    assert not has_many_lines(tmp_path / "missing")
    assert not has_many_lines(tmp_path)
    with large.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert has_many_lines(None)
        assert has_many_lines(Path("-"))
    receiver, sender = os.pipe()
    os.write(sender, b"a line\n" * 4000)
    with os.fdopen(sender, "wb"), os.fdopen(receiver) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        assert not has_many_lines(None)
    for nothing in (None, pipe, io.StringIO("a line\n" * 4000)):
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not has_many_lines(None)
