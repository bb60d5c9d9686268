"""A stand-in for a trained run, for tests of the commands: it writes each input backwards."""

import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seq2seq_kit.config import load_config
from seq2seq_kit.errors import InputError

ROOT = Path(__file__).parents[1]
PAIRS = {"data": {"train": {"tsv": "pairs.tsv", "source_columns": 2, "target_columns": 1}}}


@dataclass
class Hypothesis:
    text: str
    score: float
    is_cut: bool = False


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

    def stream(self, text: str, *, first_line: int, **options: Any) -> Iterator[str]:
        """The best output, two characters at a time."""
        self.calls.append({"text": text, "first_line": first_line, **options})
        ((best,),) = self.hypotheses([text], num_hypotheses=1, first_line=first_line)
        for start in range(0, len(best.text), 2):
            yield best.text[start : start + 2]

    @property
    def source_tokenizer(self) -> Any:
        """A tokenizer of characters, each of them five tokens: 20 characters are the limit."""
        return types.SimpleNamespace(
            encode=lambda texts: [list(text) * 5 for text in texts],
            normalize=lambda text: text.removeprefix("\ufeff"),
        )

    @property
    def inputs(self) -> Any:
        """What encodes the inputs and knows which are too long: see `source_tokenizer`."""

        def too_long(line: str, num_tokens: int) -> InputError:
            return InputError(f"{line} has {num_tokens} tokens; the model takes at most 100")

        return types.SimpleNamespace(
            overlong=lambda texts: [(n, 5 * len(t)) for n, t in enumerate(texts) if len(t) > 20],
            too_long=too_long,
        )

    @property
    def tokenizer(self) -> Any:
        return self.source_tokenizer


# `s2s` in a separate process, with `Backwards` in place of a trained run.
_S2S = """
import sys, types
sys.path.insert(0, "tests")
from backwards import Backwards
import seq2seq_kit
from seq2seq_kit.cli import main
seq2seq_kit.Seq2Seq = types.SimpleNamespace(load=lambda path: Backwards())
sys.exit(main(sys.argv[1:]))
"""


def run_s2s(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seq2seq_kit", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


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
