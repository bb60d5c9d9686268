"""The verification of an export: a fresh process must answer as the Python API does."""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
found = {name: dict(signatures[name](inputs=inputs)) for name in ("serving_default", "n_best")}
found["n_best"] = {name: found["n_best"][name][:, :1] for name in ("outputs", "scores")}
for name, best in found["n_best"].items():
    assert (best[:, 0] == found["serving_default"][name]).numpy().all(), f"n_best has other {name}"
if "score" in signatures:
    found["score"] = signatures["score"](inputs=inputs, targets=inputs[::-1])
if "sample" in signatures:
    samples = signatures["sample"](
        inputs=inputs[:3], num_samples=tf.constant(2), seed=tf.constant(1, tf.int64)
    )
    found["sample"] = {name: samples[name] for name in ("outputs", "scores")}
if "read" in signatures:
    state = signatures["read"](inputs=inputs[:3], seed=tf.constant(1, tf.int64))
    found["continue"] = signatures["continue"](max_length=tf.constant(4), **state)
    found["continue"] = {"outputs": found["continue"]["outputs"]}

def plain(value):
    values = tf.cast(value, tf.string).numpy() if value.dtype == tf.string else value.numpy()
    flat = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values.ravel().tolist()]
    return flat

answers = {
    signature: {name: plain(value) for name, value in outputs.items()}
    for signature, outputs in found.items()
}
description = signatures["describe"]()["description"].numpy().decode("utf-8")
found = {"signatures": sorted(signatures), "description": description, "answers": answers}
json.dump(found, open(sys.argv[3], "w", encoding="utf-8"))
"""


class FreshAnswers(NamedTuple):
    """What an export says in a process that imports only tensorflow and tensorflow_text."""

    signatures: list[str]
    """The names of its signatures."""
    description: str
    """What the signature `describe` returns."""
    answers: dict[str, dict[str, list[Any]]]
    """The answers to the probes: for each signature that was asked, each output as a flat list."""


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


def verify_export(path: Path, probes: Probes) -> FreshAnswers:
    """Returns the answers of an export that a fresh process has loaded.

    Raises:
        RunError: If it cannot run the export, or the best outputs are other than expected.
    """
    try:
        found = ask_fresh_process(path, probes.lines)
    except RunError as error:
        raise RunError(f"{error} So it was not kept.") from error
    best = found.answers["serving_default"]
    _check_answers(Outputs(best["outputs"], best["scores"]), probes)
    return found


def compare_answers(
    found: Mapping[str, Mapping[str, list[Any]]], expected: Mapping[str, Mapping[str, list[Any]]]
) -> None:
    """Checks that an export answers its probes as it did when it was made.

    Args:
        found: Its answers now, as in `FreshAnswers`.
        expected: Its answers then; scores may differ slightly, as on another processor.

    Raises:
        RunError: If they differ.
    """
    for signature, outputs in expected.items():
        for name, values in outputs.items():
            now = found.get(signature, {}).get(name, [])
            if len(now) != len(values) or not all(map(_is_same, now, values)):
                raise _otherwise(signature, name, now, values)


def _otherwise(signature: str, name: str, now: Sequence[Any], values: Sequence[Any]) -> RunError:
    """Returns the error for an output that has other values than it had."""
    different = (pair for pair in zip(now, values, strict=False) if not _is_same(*pair))
    found, expected = next(different, (f"{len(now)} values", f"{len(values)} values"))
    return RunError(
        f"`{signature}` gives other `{name}` than when the export was made: {found!r} in place of "
        f"{expected!r}. The graph, the weights or the probes were changed, or the software of this "
        f"machine computes otherwise. Export the run again."
    )


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal, or nearly so where they are scores."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=_SCORE_TOLERANCE)
    return bool(one == other)


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


def ask_fresh_process(path: Path, lines: Sequence[str]) -> FreshAnswers:
    """Returns an export's answers in a process that imports only tensorflow and tensorflow_text.

    Raises:
        RunError: If the process fails.
    """
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
            last_line = ended.stderr.strip().rpartition("\n")[2]
            raise RunError(f"A fresh process could not run the export. It said: {last_line}")
        return FreshAnswers(**json.loads(answered.read_text(encoding="utf-8")))


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
