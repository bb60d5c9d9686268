"""Commands against a model that is no model: it writes each input backwards."""

import gzip
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
import typing
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TrainedRun

import seq2seq_kit
from seq2seq_kit.cli import main, tables, text_io
from seq2seq_kit.config import DecodingConfig, load_config
from seq2seq_kit.errors import InputError, RunError, TrainingInterrupted

ROOT = Path(__file__).parents[1]
PAIRS = {"data": {"train": {"tsv": "pairs.tsv", "source_columns": 2, "target_columns": 1}}}


@dataclass
class Hypothesis:
    text: str
    score: float
    is_cut: bool = False


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's, which stays out."""


class Backwards:
    """What the commands need of `Seq2Seq`: the best output is the input backwards, the next `?`.

    The output for an input that begins with `~` was cut.
    """

    config = load_config(PAIRS)
    calls: list[dict[str, Any]]

    def __init__(self) -> None:
        self.calls = []

    def hypotheses(
        self,
        texts: Sequence[str],
        *,
        num_hypotheses: int,
        first_line: int,
        truncate: bool = False,
        **options: Any,
    ) -> Iterator[list[Hypothesis]]:
        self.calls.append({"texts": list(texts), **options})
        for number, text in enumerate(texts, first_line):
            if len(text) > 20 and not truncate:
                raise InputError(f"Line {number} has {len(text)} tokens.")
            best = Hypothesis(text[::-1].replace("/", "\n"), -0.5, is_cut=text.startswith("~"))
            yield [best, *[Hypothesis("?", -1.0)] * (num_hypotheses - 1)]

    @property
    def source_tokenizer(self) -> Any:
        """A tokenizer of characters, each of them five tokens: 20 characters are the limit."""
        return types.SimpleNamespace(
            encode=lambda texts: [list(text) * 5 for text in texts],
            normalize=lambda text: text.removeprefix("\ufeff"),
        )

    @property
    def tokenizer(self) -> Any:
        return self.source_tokenizer


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Backwards:
    """Stands for `Seq2Seq.load` of any folder; TensorFlow stays out."""
    fake = Backwards()
    # Where `from seq2seq_kit import Seq2Seq` finds it before it imports TensorFlow.
    seq2seq = types.SimpleNamespace(load=lambda _path: fake)
    monkeypatch.setitem(vars(seq2seq_kit), "Seq2Seq", seq2seq)
    monkeypatch.setattr("seq2seq_kit.startup.load_tensorflow", lambda: None)
    return fake


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets the bytes of standard input."""

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))

    return give


def run_s2s(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seq2seq_kit", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"]])
def test_help_imports_click_alone(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from seq2seq_kit.cli import main\n"
        f"assert main({arguments!r}) == 0\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'pydantic', 'yaml', 'sentencepiece'}\n"
        "assert heavy.isdisjoint(sys.modules), heavy & set(sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: s2s")


def test_the_module_runs_as_a_command() -> None:
    result = run_s2s("--version")
    assert (result.returncode, result.stdout) == (0, "s2s 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "Missing argument 'CONFIG.yaml'. See `s2s fit --help`."),
        (["generate", "run", "--beamsize", "3"], "No such option '--beamsize'"),
        (["generate", "run", "--beam-size", "0"], "--beam-size': `beam_size` must be 1 or more"),
        (["generate", "run", "in", "--prompt", "x"], "Expected INPUT or --prompt. Received both"),
        (["generate", "run", "--prompt", "\udcff"], "must be UTF-8. Received: '\\udcff'"),
        (["evaluate", "run"], "Expected either --source with --reference, or --tsv"),
        (["evaluate", "run", "--source", "a"], "Expected either --source with --reference"),
        (["score", "run", "--source", "a"], "Expected either --source with --target, or --text"),
        (["score", "run", "--source", "a", "--text", "b"], "Expected either --source"),
        (["fit", "none.yaml"], "none.yaml: cannot be read as a config: No such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("s2s: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "generate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("bad line"), 2, "s2s: error: bad line\n"),
        (RunError("damaged"), 1, "s2s: error: damaged\n"),
        (OSError(28, "No space left", "runs/a"), 1, "s2s: error: runs/a: No space left."),
        (OSError(28, "No space left"), 1, "s2s: error: No space left."),
        (MemoryError(), 1, "s2s: error: out of memory. Lower --batch-size, --beam-size"),
        (ResourceExhaustedError("OOM"), 1, "s2s: error: out of memory. Lower --batch-size"),
        (KeyError("x\ny"), 1, "s2s: error: KeyError: 'x\\ny' (--debug shows where)\n"),
        (ZeroDivisionError("one\ntwo"), 1, "s2s: error: ZeroDivisionError: one (--debug"),
        (KeyboardInterrupt(), 130, "s2s: error: interrupted.\n"),
    ],
)
def test_exit_code_of_an_error(
    model: Backwards,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(model, "hypotheses", fail)
    assert main(["generate", "run", "--prompt", "x"]) == code
    captured = capsys.readouterr().err.lstrip("\n")
    assert captured.startswith(message)
    assert "Traceback" not in captured


@pytest.mark.parametrize("arguments", [["--debug", "fit", "none"], ["fit", "none", "--debug"]])
def test_debug_shows_the_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.usefixtures("model")
def test_one_output_line_for_each_input_line(stdin: Any, capsysbinary: Any) -> None:
    # U+2028 and the form feed end no line; a missing last newline is none; "/" comes out as one.
    stdin("ab\n\n春天\u2028到\f了\r\na/b\\c".encode())
    assert main(["generate", "run"]) == 0
    assert capsysbinary.readouterr().out == "ba\n\n了\f到\u2028天春\nc\\\\b\\na\n".encode()


@pytest.mark.usefixtures("model")
def test_prompt_is_answered_raw(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "run", "--prompt", "a/b\\"]) == 0
    assert capsys.readouterr().out == "\\b\na\n"


@pytest.mark.parametrize(("task", "separator"), [("translation", "\t"), ("continuation", "")])
def test_echo_puts_a_tab_between_a_source_and_its_translation(
    model: Backwards,
    task: str,
    separator: str,
    stdin: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(model, "config", model.config.model_copy(update={"task": task}))
    assert main(["generate", "run", "--prompt", "a/b\\", "--echo"]) == 0
    assert capsys.readouterr().out == f"a/b\\{separator}\\b\na\n"
    stdin(b"ab\nc/d\n")
    assert main(["generate", "run", "--echo"]) == 0
    assert capsys.readouterr().out == f"ab{separator}ba\nc/d{separator}d\\nc\n"


@pytest.mark.usefixtures("model")
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
    model: Backwards,
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
    monkeypatch.setattr(model, "config", model.config.model_copy(update={"task": "continuation"}))
    stdin(b"~a\n")
    assert main(["generate", "run", "--scores", *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[0] == "1\t1\t-0.500000\ta~\tcut"


@pytest.mark.usefixtures("model")
def test_scores_show_the_best_with_its_score(
    stdin: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(b"ab\n")
    assert main(["generate", "run", "--scores", "--echo"]) == 0
    assert capsys.readouterr().out == "1\t1\t-0.500000\tab\tba\tended\n"


def test_options_reach_the_search(model: Backwards) -> None:
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
    (call,) = model.calls
    call = {name: value for name, value in call.items() if value is not None}
    assert call == {"texts": ["x"], **given}


def test_a_long_input_passes_in_chunks(
    model: Backwards,
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
    assert [call["texts"] for call in model.calls][:2] == [["a", "b"], ["c", "d"]]


@pytest.mark.usefixtures("model")
def test_truncated_inputs_are_counted(stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(b"ab\n" + b"x" * 21 + b"\n")
    assert main(["generate", "run", "--long-lines", "truncate"]) == 0
    assert capsys.readouterr().err == "1 over-long inputs were truncated.\n"


def test_a_saved_model_answers_with_its_own_search(
    model: Backwards,
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
    assert model.calls == []


@pytest.mark.usefixtures("model")
def test_bytes_that_are_not_utf8_are_named_by_line(
    stdin: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(b"ab\n\xff\n")
    assert main(["generate", "run"]) == 2
    error = capsys.readouterr().err
    assert "standard input" in error
    assert "2" in error


# `s2s` in a process of its own, with `Backwards` in the place of a trained run.
_S2S = """
import sys, types
sys.path.insert(0, "tests")
from test_cli import Backwards
import seq2seq_kit
from seq2seq_kit.cli import main
seq2seq_kit.Seq2Seq = types.SimpleNamespace(load=lambda path: Backwards())
sys.exit(main(sys.argv[1:]))
"""


def start_s2s(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", _S2S, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, **(pipes | options))
    # An answer that does not come ends the test, not the patience of whoever runs it.
    alarm = threading.Timer(120, process.kill)
    alarm.daemon = True
    alarm.start()
    return process


def give(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def answer(process: subprocess.Popen[bytes], lines: int = 1) -> bytes:
    """The next lines of output."""
    assert process.stdout is not None
    return b"".join(process.stdout.readline() for _ in range(lines))


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


@pytest.mark.usefixtures("model")
def test_a_piped_file_is_read_in_large_chunks(
    model: Backwards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(b"ab\n" * 10_000 + b"cd")
    with (tmp_path / "in").open(encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["generate", "run"]) == 0
    assert [len(call["texts"]) for call in model.calls] == [4096, 4096, 1809]


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
@pytest.mark.usefixtures("model")
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


@pytest.mark.usefixtures("model")
def test_output_never_replaces_the_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_bytes(b"ab\n")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for output in ("in", "link"):
        assert main(["generate", "run", str(tmp_path / "in"), "-o", str(tmp_path / output)]) == 2
        assert "must be another file than INPUT" in capsys.readouterr().err
    assert (tmp_path / "in").read_bytes() == b"ab\n"


@pytest.mark.usefixtures("model")
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


@pytest.mark.usefixtures("model")
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
@pytest.mark.usefixtures("model")
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
@pytest.mark.usefixtures("model")
def test_a_device_is_written_to_not_replaced(tmp_path: Path) -> None:
    device = tmp_path / "null"
    device.symlink_to(os.devnull)
    assert main(["generate", "run", "--prompt", "x", "-o", str(device)]) == 0
    assert device.is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX pipe")
def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    process = start_s2s("generate", "run")
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate(b"some words\n" * 50_000)
    assert error == b""
    assert process.returncode == 0


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a line of shell in which `s2s` is `start_s2s`'s and `python` this one."""
    line = f's2s() {{ "{sys.executable}" -c "$S2S" "$@"; }}; {command}'
    return subprocess.run(
        ["sh", "-c", line],
        cwd=ROOT,
        env=os.environ | {"S2S": _S2S} | environment,
        input=b"ab\n",
        capture_output=True,
        check=False,
    )


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("command", "code", "output", "error"),
    [
        ("s2s generate run 2>&-", 0, "ba\n", ""),
        ("s2s generate run -o {out} 2>&- && cat {out}", 0, "ba\n", ""),
        ("s2s generate run --beam-size 0 2>&-", 2, "", ""),
        ("s2s generate run <&-", 2, "", "s2s: error: Standard input is closed. Give INPUT or --pr"),
        ("s2s generate run --prompt ab <&- 2>&-", 0, "ba\n", ""),
        ("s2s generate run >&-", 2, "", "s2s: error: Standard output is closed, so there is now"),
        ("s2s info run >&-", 2, "", "s2s: error: Standard output is closed, so there is now"),
        ("s2s init {out}.d <&- >&- 2>&- && ls {out}.d/translation.yaml", 0, "{out}.d/trans", ""),
        ("s2s --help <&- >&-", 0, "", ""),
        ("{{ s2s --help; echo $? >&2; }} | head -n 1", 0, "Usage", "0\n"),
        ("s2s generate run > /dev/full", 1, "", "s2s: error: No space left on device"),
        ("s2s --version > /dev/full", 1, "", "s2s: error: "),
    ],
)
def test_streams_that_are_closed_or_full(
    tmp_path: Path, command: str, code: int, output: str, error: str
) -> None:
    out = str(tmp_path / "out")
    ended = shell(command.format(out=out))
    assert ended.returncode == code, ended.stderr
    assert ended.stdout.decode().startswith(output.format(out=out))
    assert ended.stderr.decode().startswith(error)
    assert ended.stderr.count(b"\n") == bool(error), ended.stderr
    assert bool(ended.stdout) == bool(output)


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_an_encoding_that_cannot_hold_the_text_is_no_matter() -> None:
    cp1252 = {"PYTHONIOENCODING": "cp1252"}
    # The answer is UTF-8 always; the name in the listing of what was written is spelt out.
    assert shell("s2s generate run --prompt 春天", **cp1252).stdout == "天春\n".encode()
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert shell("s2s generate run --prompt 春天", **ascii_only).stdout == "天春\n".encode()
    ended = shell("d=$(mktemp -d); s2s init $d/春天", **cp1252)
    assert ended.returncode == 0, ended.stderr
    assert b"\\u6625\\u5929" in ended.stdout
    assert b"Traceback" not in ended.stderr


def test_a_tilde_that_the_shell_left_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["init", "~/start"]) == 0
    assert (tmp_path / "start" / "translation.yaml").is_file()
    assert main(["generate", "~nosuchuser/run"]) == 2
    assert "`~nosuchuser` stands for no home folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "code", "can_resume"),
    [("SIGINT", 130, True), ("SIGTERM", 143, True), ("SIGHUP", 129, True), ("SIGTERM", 143, False)],
)
def test_interrupted_training_says_how_to_resume(
    model: Backwards,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: int,
    can_resume: bool,
) -> None:
    if not hasattr(signal, name):
        pytest.skip("not on this system")

    def fit(_config: Path, *, overrides: tuple[str, ...], run_dir: Path, resume: bool) -> None:
        assert overrides == ("training.epochs=2",)
        assert not resume
        raise TrainingInterrupted(run_dir, getattr(signal, name), can_resume=can_resume)

    monkeypatch.setattr(seq2seq_kit.Seq2Seq, "fit", fit, raising=False)
    (tmp_path / "pairs.tsv").write_text("a\tb\n", encoding="utf-8")
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(PAIRS), encoding="utf-8")
    assert main(["fit", str(config), "--set", "training.epochs=2"]) == code
    error = capsys.readouterr().err
    command = f"s2s fit {config} --run-dir {Path('runs', 'tiny')} --set training.epochs=2"
    if can_resume:
        assert error.endswith(f"Resume it with: {command} --resume\n")
    else:
        assert error.endswith(f"before its first step. Start it again with: {command}\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_generate_and_leaves_no_half_output(
    tmp_path: Path, name: str, code: int
) -> None:
    process = start_s2s("generate", "run", "-o", str(tmp_path / "out"))
    give(process, b"ab\n")
    while not list(tmp_path.glob(".out*/content")):
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    error = process.communicate()[1].decode().strip()
    by = "" if name == "SIGINT" else f" by {name}"
    assert (error, process.returncode) == (f"s2s: error: interrupted{by}.", code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")
def test_nohup_is_obeyed() -> None:
    process = start_s2s(
        "generate", "run", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    for text in (b"ab", b"cd"):
        give(process, text + b"\n")
        assert answer(process) == text[::-1] + b"\n"
        process.send_signal(signal.SIGHUP)
    assert process.communicate() == (b"", b"")
    assert process.returncode == 0


@pytest.fixture
def answers(model: Backwards, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The references that `evaluate` was called with; every score is a log-probability of -2."""
    from seq2seq_kit.inference.evaluation import compare_texts
    from seq2seq_kit.inference.scorer import Score

    seen: list[list[str]] = []

    def evaluate(
        sources: Sequence[str],
        references: Sequence[Sequence[str]],
        *,
        tokenize: str | None,
        truncate: bool,
        **options: Any,
    ) -> Any:
        assert truncate
        model.calls.append(options)
        seen.extend([source, *texts] for source, texts in zip(sources, references, strict=True))
        scores = compare_texts(
            [source[::-1] for source in sources], references, tokenize=tokenize or "13a"
        )
        return replace(scores, cut_outputs=sum(source.startswith("~") for source in sources))

    def score(sources: Sequence[str], targets: Sequence[str], *, truncate: bool) -> list[Score]:
        assert truncate
        return [Score(-2.0, len(target)) for _, target in zip(sources, targets, strict=True)]

    monkeypatch.setattr(model, "evaluate", evaluate, raising=False)
    monkeypatch.setattr(model, "score", score, raising=False)
    return seen


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
def test_each_field_of_the_decoding_section_is_an_option(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in DecodingConfig.model_fields:
        assert f"--{name.replace('_', '-')} " in shown


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--no-repeat-ngram", "-1", "`no_repeat_ngram` must be 0 or more. Received: -1"),
        ("--length-penalty", "inf", "`length_penalty` must be a finite number. Received: inf"),
        ("--precision", "int8", "'int8' is not one of 'float32', 'bfloat16'"),
        ("--max-length", "x", "'x' is not a valid integer"),
    ],
)
def test_a_search_option_out_of_range_is_named_as_typed(
    command: str, option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "run", option, value]) == 2
    error = capsys.readouterr().err
    assert f"Invalid value for '{option}'" in error
    assert message in error


@pytest.mark.usefixtures("answers")
def test_evaluate_takes_the_options_of_a_search(model: Backwards, tmp_path: Path) -> None:
    (tmp_path / "both.tsv").write_text("ab\tba\n", encoding="utf-8")
    options = ["--beam-size", "2", "--no-repeat-ngram", "3", "--no-shortlist"]
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "both.tsv"), *options]) == 0
    given = {name: value for name, value in model.calls[0].items() if value is not None}
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


def test_every_result_has_a_name_and_a_unit_of_its_own(translation_run: TrainedRun) -> None:
    results = translation_run.fitted.results
    shown = tables.results_table(results)
    rows = [re.split(" {2,}", row) for row in shown.splitlines()]
    names = [name for name, _ in rows]
    assert len(set(names)) == len(results) - 1  # references_without_spaces is for the advice
    assert not any("_" in name for name in names)
    assert dict(rows)["validation exact match"] == f"{results['validation_exact_match']:.2f} %"


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
    assert f"{tmp_path / 'in'}, line 2: has 105 tokens; the model takes at most" in captured.err
    assert main([command, "run", *files, "--long-lines", "truncate"]) == 0
    assert "1 over-long inputs were truncated." in capsys.readouterr().err


@pytest.mark.usefixtures("answers")
def test_an_over_long_input_of_a_tsv_has_the_line_of_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "ba\tab\nxx\tab\nyy\t" + 21 * "y" + "\n"
    (tmp_path / "test.tsv").write_text(rows, encoding="utf-8")
    assert main(["evaluate", "run", "--tsv", str(tmp_path / "test.tsv")]) == 2
    assert "test.tsv, line 3: has 105 tokens" in capsys.readouterr().err


@pytest.mark.usefixtures("answers")
def test_score_of_texts_alone_is_for_continuation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_text("ab\n", encoding="utf-8")
    assert main(["score", "run", "--text", str(tmp_path / "texts")]) == 2
    assert "give --source" in capsys.readouterr().err


@pytest.mark.usefixtures("answers")
def test_score_writes_a_line_for_each_and_perplexities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_text("ab c\nd\n", encoding="utf-8")
    texts = str(tmp_path / "texts")
    assert main(["score", "run", "--source", texts, "--target", texts]) == 0
    captured = capsys.readouterr()
    assert captured.out == "-2.000000\t4\n-2.000000\t1\n"
    # 4 nats over 5 tokens; 3 words and 2 line ends; 5 characters and 2 line ends.
    assert captured.err == (
        f"2 lines; perplexity {math.exp(4 / 5):.6g} per token,"
        f" {math.exp(4 / 5):.6g} per word, {math.exp(4 / 7):.6g} per character\n"
    )


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
def test_score_refuses_files_of_different_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "out").write_text("a\n", encoding="utf-8")
    files = ["--source", str(tmp_path / "in"), "--target", str(tmp_path / "out")]
    assert main(["score", "run", *files]) == 2
    assert capsys.readouterr().err.startswith("s2s: error: ")


def test_init_writes_configs_that_find_their_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from seq2seq_kit.text.checks import check_files

    assert main(["init", str(tmp_path / "start")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    for name in ("translation.yaml", "continuation.yaml"):
        check_files(load_config(tmp_path / "start" / name))


def test_init_into_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["init", str(tmp_path / "file")]) == 2
    assert "file cannot be made (File exists)" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_init_completes_a_starter_that_was_interrupted(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "start")]) == 0
    whole = {path: path.read_bytes() for path in (tmp_path / "start").rglob("*") if path.is_file()}
    (tmp_path / "start" / "translation.yaml").unlink()
    assert main(["init", str(tmp_path / "start")]) == 0
    files = (path for path in (tmp_path / "start").rglob("*") if path.is_file())
    assert {path: path.read_bytes() for path in files} == whole


@pytest.mark.parametrize("files_before", [0, 3])
def test_init_on_a_full_disk_leaves_nothing_half_written(
    files_before: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    synced = []
    sync = os.fsync

    def full_disk(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 2 * files_before:  # Each file, and the names in its folder.
            raise OSError(28, "No space left on device")
        sync(descriptor)

    (tmp_path / "mine").touch()
    monkeypatch.setattr(os, "fsync", full_disk)
    assert main(["init", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("s2s: error: The starter could not be written to ")
    assert "No space left on device" in error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "mine"]


def test_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "translation.yaml"
    mine.write_text("mine", encoding="utf-8")
    assert main(["init", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("s2s: error: ")
    assert "Nothing was written or overwritten" in error
    assert list(tmp_path.iterdir()) == [mine]
    assert mine.read_text(encoding="utf-8") == "mine"
