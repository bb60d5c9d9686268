"""What every command shares: help, errors, exit codes, standard streams, signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from backwards import ROOT, Backwards, answer, give, run_s2s, shell, start_s2s

from seq2seq_kit.cli import main
from seq2seq_kit.errors import InputError, RunError


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's, which stays out."""


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
    backwards: Backwards,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(backwards, "hypotheses", fail)
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


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX pipe")
def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    process = start_s2s("generate", "run")
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate(b"some words\n" * 50_000)
    assert error == b""
    assert process.returncode == 0


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
    # The answer is UTF-8 always; the name in the listing of what was written is escaped.
    assert shell("s2s generate run --prompt 春天", **cp1252).stdout == "天春\n".encode()
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert shell("s2s generate run --prompt 春天", **ascii_only).stdout == "天春\n".encode()
    ended = shell("d=$(mktemp -d); s2s init $d/春天", **cp1252)
    assert ended.returncode == 0, ended.stderr
    assert b"\\u6625\\u5929" in ended.stdout
    assert b"Traceback" not in ended.stderr


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
