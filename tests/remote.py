"""A model for processes of tests, which start quickly because it needs no TensorFlow."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from seq2seq_kit.errors import InputError


class Remote:
    """Writes each input backwards; some inputs have other effects."""

    def hypotheses(
        self, texts: Sequence[str], prefixes: Sequence[str], options: Any, *, first_line: int = 1
    ) -> list[list[SimpleNamespace]]:
        if "kill" in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        if "bad" in texts:
            raise InputError(f"Line {list(texts).index('bad') + first_line} is bad.")
        if "broken" in texts:
            raise RuntimeError("secret details")
        if "slow" in texts:
            time.sleep(0.5)
        pid = str(os.getpid())
        outputs = [pid if text == "pid" else text[::-1] for text in texts]
        return [
            [SimpleNamespace(text=text, score=-1.0, log_prob=-1.0, is_cut=False)]
            for text in outputs
        ]

    def stream(self, text: str, options: Any, prefix: str = "") -> Iterator[str]:
        for character in text:
            if character == "!":
                os.kill(os.getpid(), signal.SIGKILL)
            yield character


def load() -> dict[str, Remote]:
    return {"remote": Remote()}


def fail_to_load() -> dict[str, Remote]:
    raise RuntimeError("The disk is gone.")
