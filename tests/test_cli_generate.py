"""`s2s generate`: lines in and out, layouts, files, pipes."""

import gzip
import math
import os
import sys
import types
import typing
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backwards import Backwards, Hypothesis, answer, give, start_s2s

from seq2seq_kit import startup
from seq2seq_kit.cli import main, text_io


@pytest.mark.usefixtures("backwards")
def test_one_output_line_for_each_input_line(stdin: Any, capsysbinary: Any) -> None:
    # U+2028 and the form feed end no line; a missing last newline is none; "/" comes out as one.
    stdin("ab\n\n春天\u2028到\f了\r\na/b\\c".encode())
    assert main(["generate", "run"]) == 0
    assert capsysbinary.readouterr().out == "ba\n\n了\f到\u2028天春\nc\\\\b\\na\n".encode()


@pytest.mark.usefixtures("backwards")
def test_prompt_is_answered_raw(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "run", "--prompt", "a/b\\"]) == 0
    assert capsys.readouterr().out == "\\b\na\n"


@pytest.mark.parametrize(("task", "separator"), [("translation", "\t"), ("continuation", "")])
def test_echo_puts_a_tab_between_a_source_and_its_translation(
    backwards: Backwards,
    task: str,
    separator: str,
    stdin: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(backwards, "config", backwards.config.model_copy(update={"task": task}))
    assert main(["generate", "run", "--prompt", "a/b\\", "--echo"]) == 0
    assert capsys.readouterr().out == f"a/b\\{separator}\\b\na\n"
    stdin(b"ab\nc/d\n")
    assert main(["generate", "run", "--echo"]) == 0
    assert capsys.readouterr().out == f"ab{separator}ba\nc/d{separator}d\\nc\n"


@pytest.mark.usefixtures("backwards")
def test_hypotheses_are_tab_separated(stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(b"ab\nc/d\n")
    assert main(["generate", "run", "--num-hypotheses", "2"]) == 0
    assert capsys.readouterr().out == (
        "1\t1\t-0.500000\tba\tended\n1\t2\t-1.000000\t?\tended\n"
        "2\t1\t-0.500000\td\\nc\tended\n2\t2\t-1.000000\t?\tended\n"
    )


@pytest.mark.parametrize(
    ("options", "counted"),
    [
        ([], "2 of 3 outputs were cut at 100 tokens"),
        (["--max-length", "7"], "2 of 3 outputs were cut at 7 tokens"),
        (["--num-hypotheses", "2"], "2 of 6 outputs were cut at 100 tokens"),
    ],
)
def test_outputs_that_were_cut_are_counted_and_marked(
    options: list[str],
    counted: str,
    backwards: Backwards,
    stdin: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stdin(b"~a\nb\n~c\n")
    assert main(["generate", "run", *options]) == 0
    captured = capsys.readouterr()
    assert counted in captured.err
    assert "--max-length" in captured.err
    if "--num-hypotheses" in options:
        ends = [row.split("\t")[-1] for row in captured.out.splitlines()]
        assert ends == ["cut", "ended", "ended", "ended", "cut", "ended"]
    # A continuation usually ends at its limit: it is marked all the same.
    monkeypatch.setattr(
        backwards, "config", backwards.config.model_copy(update={"task": "continuation"})
    )
    stdin(b"~a\n")
    assert main(["generate", "run", "--scores", *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[0] == "1\t1\t-0.500000\ta~\tcut"


@pytest.mark.usefixtures("backwards")
def test_scores_show_the_best_with_its_score(
    stdin: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(b"ab\n")
    assert main(["generate", "run", "--scores", "--echo"]) == 0
    assert capsys.readouterr().out == "1\t1\t-0.500000\tab\tba\tended\n"


def test_options_reach_the_search(backwards: Backwards) -> None:
    options = [
        "--beam-size",
        "3",
        "--batch-size",
        "7",
        "--max-length",
        "9",
        "--length-penalty",
        "0",
        "--no-repeat-ngram",
        "2",
        "--shortlist",
        "--precision",
        "bfloat16",
    ]
    assert main(["generate", "run", "--prompt", "x", *options]) == 0
    given = {"beam_size": 3, "batch_size": 7, "max_length": 9, "length_penalty": 0.0}
    given |= {"no_repeat_ngram": 2, "shortlist": True, "precision": "bfloat16"}
    (call,) = backwards.calls
    call = {name: value for name, value in call.items() if value is not None}
    assert call == {"texts": ["x"], **given}


@pytest.mark.usefixtures("backwards")
@pytest.mark.parametrize(
    ("lines", "options", "is_limited"),
    [(4000, [], True), (4, [], False), (4, ["--threads", "2"], True), (4, ["--stream"], False)],
)
def test_with_lines_for_all_cores_an_operation_uses_one(
    lines: int,
    options: list[str],
    is_limited: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited = []
    monkeypatch.setattr(startup, "compute_operations_on_one_thread", lambda: limited.append(True))
    (tmp_path / "in").write_text("ab cd\n" * lines)
    assert main(["generate", "run", str(tmp_path / "in"), *options]) == 0
    assert bool(limited) == is_limited


def test_a_long_input_passes_in_chunks(
    backwards: Backwards,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(text_io, "LINES_AT_ONCE", 2)
    source = tmp_path / "in.txt"
    source.write_text("a\nb\nc\nd\ntoo long to be translated\n", encoding="utf-8")
    assert main(["generate", "run", str(source)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "a\nb\nc\nd\n"
    assert "Line 5 has 25 tokens" in captured.err
    assert [call["texts"] for call in backwards.calls][:2] == [["a", "b"], ["c", "d"]]


@pytest.mark.usefixtures("backwards")
def test_truncated_inputs_are_counted(stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(b"ab\n" + b"x" * 21 + b"\n")
    assert main(["generate", "run", "--long-lines", "truncate"]) == 0
    assert capsys.readouterr().err == "1 over-long input was truncated.\n"


def test_a_saved_model_answers_with_its_own_search(
    backwards: Backwards,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class ExportedModel:
        metadata: typing.ClassVar = {"task": "translation", "decoding": {"max_length": 7}}
        truncates = True
        num_truncated = 3

        def __init__(self, path: Path) -> None:
            assert path == tmp_path

        def hypotheses(
            self, texts: Sequence[str], *, num_hypotheses: int, first_line: int
        ) -> list[list[Hypothesis]]:
            assert first_line == 1
            return [
                [
                    Hypothesis(text[::-1], -0.25 * n, text == "cut")
                    for n in range(1, num_hypotheses + 1)
                ]
                if text != "long"
                else [Hypothesis("", -math.inf)] * num_hypotheses
                for text in texts
            ]

    module = types.ModuleType("seq2seq_kit.export.saved_model")
    module.ExportedModel = ExportedModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "seq2seq_kit.export.saved_model", module)
    (tmp_path / "saved_model.pb").touch()
    assert main(["generate", str(tmp_path), "--prompt", "ab", "--scores"]) == 0
    assert capsys.readouterr().out == "1\t1\t-0.250000\tba\tended\n"
    assert main(["generate", str(tmp_path), "--prompt", "ab", "--num-hypotheses", "2"]) == 0
    assert capsys.readouterr().out == "1\t1\t-0.250000\tba\tended\n1\t2\t-0.500000\tba\tended\n"
    (tmp_path / "in").write_text("long\nab\nlong\ncut\n")
    assert main(["generate", str(tmp_path), str(tmp_path / "in")]) == 0
    shown = capsys.readouterr()
    assert shown.out == "\nba\n\ntuc\n"
    assert "3 over-long inputs were truncated." in shown.err
    assert "1 of 4 outputs were cut at 7 tokens" in shown.err
    assert "which have an empty output: 2 (line 1, 3)." in shown.err
    for other in (["--length-penalty", "0"], ["--long-lines", "truncate"]):
        assert main(["generate", str(tmp_path), "--prompt", "ab", *other]) == 2
        assert "whose search is fixed" in capsys.readouterr().err
    assert backwards.calls == []


@pytest.mark.usefixtures("backwards")
def test_bytes_that_are_not_utf8_are_named_by_line(
    stdin: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(b"ab\n\xff\n")
    assert main(["generate", "run"]) == 2
    error = capsys.readouterr().err
    assert "standard input" in error
    assert "2" in error


def test_a_line_is_answered_before_the_next_one_is_written() -> None:
    process = start_s2s("generate", "run")
    give(process, b"ab\n")
    assert answer(process) == b"ba\n"
    give(process, b"cd\nef\n\n")
    assert answer(process, 3) == b"dc\nfe\n\n"
    give(process, b"gh\n\xe6\x98")  # A line, and the beginning of a character.
    assert answer(process) == b"hg\n"
    give(process, b"\xa5!\nhalf")
    assert answer(process) == "!春\n".encode()
    output, error = process.communicate()
    assert (output, error, process.returncode) == (b"flah\n", b"", 0)


def test_rows_of_hypotheses_are_answered_as_lines_come_and_are_numbered_on() -> None:
    process = start_s2s("generate", "run", "--num-hypotheses", "2")
    for number in (1, 2):
        give(process, b"ab\n")
        rows = f"{number}\t1\t-0.500000\tba\tended\n{number}\t2\t-1.000000\t?\tended\n"
        assert answer(process, 2) == rows.encode()
    give(process, b"cd\n\xff\nef\n")  # The good line before a bad one is answered.
    output, error = process.communicate()
    assert output == b"3\t1\t-0.500000\tdc\tended\n3\t2\t-1.000000\t?\tended\n"
    assert error.startswith(b"s2s: error: standard input, line 4: ")
    assert process.returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_answered_as_its_lines_come(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    process = start_s2s("generate", "run", str(tmp_path / "pipe"))
    with (tmp_path / "pipe").open("wb") as pipe:
        for text in (b"ab", b"cd"):
            pipe.write(text + b"\n")
            pipe.flush()
            assert answer(process) == text[::-1] + b"\n"
    assert process.communicate() == (b"", b"")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    process = start_s2s("generate", "run", stdin=reader)
    for text in (b"ab", b"cd"):
        os.write(writer, text + b"\n")
        assert answer(process) == text[::-1] + b"\n"
    os.close(writer)
    assert process.communicate() == (b"", b"")
    os.close(reader)


@pytest.mark.usefixtures("backwards")
def test_a_piped_file_is_read_in_large_chunks(
    backwards: Backwards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(b"ab\n" * 35_000 + b"cd")
    with (tmp_path / "in").open(encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["generate", "run"]) == 0
    assert [len(call["texts"]) for call in backwards.calls] == [16384, 16384, 2233]


def gzipped(*texts: bytes) -> bytes:
    return b"".join(map(gzip.compress, texts))


@pytest.mark.parametrize(
    ("data", "output", "error"),
    [
        (gzipped(b"ab\ncd\n"), "ba\ndc\n", ""),
        (gzipped(b"ab\nc", b"", b"d\n"), "ba\ndc\n", ""),
        (gzipped(b"ab\n", b"cd") + bytes(512), "ba\ndc\n", ""),
        (gzipped(b""), "", ""),
        (b"\x1f", "\x1f\n", ""),
        (gzipped(b"ab\n", b"cd\n")[:-4], "ba\ndc\n", "they are cut off"),
        (gzipped(b"ab\n") + b"xyz", "ba\n", "the gzip data are damaged"),
    ],
    # Packed data hold the time, and both processes of `make test` must name a test alike.
    ids=[
        "whole",
        "members",
        "zeros at the end",
        "empty",
        "a byte",
        "cut off",
        "rubbish at the end",
    ],
)
@pytest.mark.usefixtures("backwards")
def test_gzip_data_through_a_pipe_are_unpacked(
    data: bytes, output: str, error: str, stdin: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(data)
    assert main(["generate", "run"]) == 2 * bool(error)
    captured = capsys.readouterr()
    assert captured.out == output
    assert error in captured.err
    assert bool(error) == bool(captured.err)


def test_packed_lines_are_answered_as_they_come() -> None:
    process = start_s2s("generate", "run")
    packer = zlib.compressobj(wbits=31)
    for text in (b"ab", b"cd"):
        data = packer.compress(text + b"\n") + packer.flush(zlib.Z_SYNC_FLUSH)
        give(process, data[:1])
        give(process, data[1:])
        assert answer(process) == text[::-1] + b"\n"
    output, error = process.communicate(packer.flush())
    assert (output, error, process.returncode) == (b"", b"", 0)


@pytest.mark.usefixtures("backwards")
def test_output_never_replaces_the_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_bytes(b"ab\n")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for output in ("in", "link"):
        assert main(["generate", "run", str(tmp_path / "in"), "-o", str(tmp_path / output)]) == 2
        assert "must be another file than INPUT" in capsys.readouterr().err
    assert (tmp_path / "in").read_bytes() == b"ab\n"


@pytest.mark.usefixtures("backwards")
def test_output_is_written_whole_or_not_at_all(tmp_path: Path, stdin: Any) -> None:
    output = tmp_path / "out.txt"
    output.write_text("before", encoding="utf-8")
    stdin(b"ab\n\xff\n")
    assert main(["generate", "run", "-o", str(output)]) == 2
    assert output.read_text(encoding="utf-8") == "before"
    stdin(b"ab\n")
    assert main(["generate", "run", "-o", str(output)]) == 0
    assert output.read_text(encoding="utf-8") == "ba\n"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.usefixtures("backwards")
def test_the_folder_of_an_output_is_made(tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "out"
    assert main(["generate", "run", "--prompt", "ab", "-o", str(output)]) == 0
    assert output.read_text(encoding="utf-8") == "ba\n"


@pytest.mark.parametrize("command", ["generate run --prompt x -o", "export run", "init", "fit"])
def test_a_folder_that_cannot_be_made_is_refused_before_the_model_loads(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "data.tsv").write_text("a\tb\n" * 20, encoding="utf-8")
    (tmp_path / "fit.yaml").write_text("data: {train: data.tsv}", encoding="utf-8")
    words = [*command.split(), str(tmp_path / "file" / "out")]
    if command == "fit":
        words[1:] = [str(tmp_path / "fit.yaml"), "--run-dir", words[1]]
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(tmp_path / "file") in error
    assert "cannot be" in error


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes, and links only for some")
@pytest.mark.usefixtures("backwards")
def test_a_link_and_a_mode_stay(tmp_path: Path) -> None:
    output, link = tmp_path / "out.txt", tmp_path / "link"
    output.touch()
    output.chmod(0o640)
    link.symlink_to(output)
    assert main(["generate", "run", "--prompt", "ab", "-o", str(link)]) == 0
    assert link.is_symlink()
    assert output.read_text(encoding="utf-8") == "ba\n"
    assert output.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such devices")
@pytest.mark.usefixtures("backwards")
def test_a_device_is_written_to_not_replaced(tmp_path: Path) -> None:
    device = tmp_path / "null"
    device.symlink_to(os.devnull)
    assert main(["generate", "run", "--prompt", "x", "-o", str(device)]) == 0
    assert device.is_symlink()


def test_a_stream_is_written_piece_by_piece(
    backwards: Backwards, stdin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    shown: list[bytes] = []  # what a reader has by the end of each flush

    @contextmanager
    def open_output(path: Path | None) -> Iterator[Any]:
        assert path is None
        yield types.SimpleNamespace(
            write=written.append, flush=lambda: shown.append(b"".join(written))
        )

    monkeypatch.setattr("seq2seq_kit.cli.generate.open_output", open_output)
    stdin(b"abc\nd/e\n")
    assert main(["generate", "run", "--stream", "--echo", "--seed", "2"]) == 0
    assert shown[:4] == [b"abc\t", b"abc\tcb", b"abc\tcba", b"abc\tcba\n"]
    assert shown[-1] == b"abc\tcba\nd/e\te\\nd\n"
    assert [call["text"] for call in backwards.calls if "text" in call] == ["abc", "d/e"]
    assert [call["first_line"] for call in backwards.calls if "text" in call] == [1, 2]
    assert all(call["seed"] == 2 for call in backwards.calls if "text" in call)


def test_a_stream_begins_with_its_prefix(backwards: Backwards, stdin: Any) -> None:
    stdin(b"abc\nd\n")
    assert main(["generate", "run", "--stream", "--prefix", "Z"]) == 0
    assert [call["prefix"] for call in backwards.calls if "text" in call] == ["Z", "Z"]


@pytest.mark.usefixtures("backwards")
def test_a_streamed_prompt_is_answered_raw(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "run", "--stream", "--prompt", "a/b\\"]) == 0
    assert capsys.readouterr().out == "\\b\na\n"


@pytest.mark.parametrize("other", [["-o", "out"], ["--scores"], ["--num-hypotheses", "2"]])
def test_a_stream_has_no_rows_and_no_file(
    other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "run", "--stream", "--prompt", "x", *other]) == 2
    assert "--stream writes plain text to standard output" in capsys.readouterr().err


def test_an_export_cannot_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert main(["generate", str(tmp_path), "--stream", "--prompt", "x"]) == 2
    assert "--stream needs a run folder" in capsys.readouterr().err


@pytest.mark.parametrize(("lines", "said"), [("A\n", "1 lines"), ("A\nB\nC\n", "3 lines")])
def test_prefixes_of_another_number_are_refused_before_the_first_output(
    lines: str,
    said: str,
    backwards: Backwards,
    stdin: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "begin").write_text(lines)
    stdin(b"ab\ncd\n")
    assert main(["generate", "run", "--prefixes", str(tmp_path / "begin")]) == 2
    shown = capsys.readouterr()
    assert f"It has {said} for 2 inputs" in shown.err and shown.out == ""
    assert backwards.calls == []
    (tmp_path / "begin").write_text("A\nB\n")
    stdin(b"ab\ncd\n")
    assert main(["generate", "run", "--prefixes", str(tmp_path / "begin")]) == 0
    assert backwards.calls[0]["prefixes"] == ["A", "B"]
