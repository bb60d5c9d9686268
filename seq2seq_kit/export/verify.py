"""The verification of an export: a fresh process must answer as the Python API does."""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import RunError
from seq2seq_kit.export.folder import LongLines
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.special_ids import NUM_SPECIAL_IDS
from seq2seq_kit.tokens.tokenizer import Tokenizer

# Scores are compared with those of the Python API up to this much: a GPU adds in another order.
_SCORE_TOLERANCE = 1e-3

# What a server would do, in a process that knows nothing of this package.
_FRESH_PROCESS = """
import json, sys
import tensorflow as tf, tensorflow_text
signatures = tf.saved_model.load(sys.argv[1]).signatures
inputs = tf.constant(json.load(open(sys.argv[2], encoding="utf-8")), tf.string)
found = signatures["serving_default"](inputs=inputs)
texts = [text.decode("utf-8") for text in found["outputs"].numpy()]
best = signatures["n_best"](inputs=inputs)
assert (best["outputs"][:, 0] == found["outputs"]).numpy().all(), "n_best has other outputs"
assert (best["scores"][:, 0] == found["scores"]).numpy().all(), "n_best has other scores"
json.loads(signatures["describe"]()["description"].numpy())
json.dump([texts, found["scores"].numpy().tolist()], open(sys.argv[3], "w", encoding="utf-8"))
"""


class Outputs(NamedTuple):
    """The outputs of an export."""

    texts: list[str]
    """The best output of each input."""
    scores: list[float]
    """The number that the search ranked it by."""


class Probes(NamedTuple):
    """Inputs that an export is tried with."""

    lines: list[str]
    """The inputs."""
    expected: Outputs
    """The outputs of the Python API for them."""


def make_probes(generator: Generator, decoding: DecodingConfig, long_lines: LongLines) -> Probes:
    """Returns inputs with the outputs that an export of a generator must have for them.

    Args:
        generator: The generator of the model.
        decoding: The options of the search.
        long_lines: What the export does with an input that has too many tokens.
    """
    tokenizer, limit = generator.inputs.tokenizer, generator.inputs.max_length
    lines = probe_lines(tokenizer, limit)
    if long_lines == "truncate" and limit is not None:
        lines.append(_long_line(tokenizer, limit))
    expected = Outputs([], [])
    for best, *_ in generator.hypotheses(lines, decoding=decoding, truncate=True):
        expected.texts.append(best.text)
        expected.scores.append(best.score)
    if long_lines == "mark" and limit is not None:
        lines.append(_long_line(tokenizer, limit))
        expected.texts.append("")
        expected.scores.append(-math.inf)
    return Probes(lines, expected)


def verify_export(path: Path, probes: Probes) -> None:
    """Raises RunError if an export, loaded in a fresh process, answers other than expected."""
    _check_answers(_ask_fresh_process(path, probes.lines), probes)


def probe_lines(tokenizer: Tokenizer, longest: int | None) -> list[str]:
    """Returns lines of several lengths and with unusual characters.

    Args:
        tokenizer: The tokenizer of the inputs, from whose pieces the lines are made.
        longest: Tokens that a line may have; None for no limit.
    """
    first_piece = NUM_SPECIAL_IDS
    plain = np.random.default_rng(0).integers(first_piece, tokenizer.vocab_size, (8, 24)).tolist()
    lines = tokenizer.decode([row[: 3 * (place + 1)] for place, row in enumerate(plain)])
    lines += ["", " ", "a\0b", "\u6625\u5929\u5230\u4e86\u3002", "\U0001f600 ?!", "Aa Bb 12."]
    # Spellings that normalization makes one, and SentencePiece's mark of a space.
    lines += ["\ufeffcafe\u0301\u00a0\uac01\u1101\u1161", "a\u2581b\x10", "\uff21\u00ad\r"]
    return [
        line
        for line, ids in zip(lines, tokenizer.encode(lines), strict=True)
        if longest is None or len(ids) <= longest
    ]


def _long_line(tokenizer: Tokenizer, limit: int) -> str:
    """Returns a line of more tokens than `limit`."""
    line = " ".join(probe_lines(tokenizer, limit)) or "a"
    while len(tokenizer.encode([line])[0]) <= limit:
        line = f"{line} {line}"
    return line


def _ask_fresh_process(path: Path, lines: Sequence[str]) -> Outputs:
    """Returns an export's answers in a process that imports only tensorflow and tensorflow_text."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "asked.json"), Path(folder, "answered.json")
        asked.write_text(json.dumps(list(lines)), encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-c", _FRESH_PROCESS, path, asked, answered],
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RunError(
                f"A fresh process could not run the export, so it was not kept. It said: "
                f"{ended.stderr.strip().rpartition(chr(10))[2]}"
            )
        return Outputs(*json.loads(answered.read_text(encoding="utf-8")))


def _check_answers(found: Outputs, probes: Probes) -> None:
    expected = probes.expected
    rows = zip(
        probes.lines, found.texts, found.scores, expected.texts, expected.scores, strict=True
    )
    for probe, text, score, expected_text, expected_score in rows:
        if text != expected_text or abs(score - expected_score) > _SCORE_TOLERANCE:
            raise RunError(
                f"The export answers {probe!r} with {text!r} ({score:.4f}), the run with "
                f"{expected_text!r} ({expected_score:.4f}), so it was not kept. Please report this "
                f"with the versions that `s2s info` shows."
            )
