"""From texts and the outputs of runs for them to a file of training pairs."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from seq2seq_kit.config import AugmentationConfig
from seq2seq_kit.digests import digest, digest_file
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.augmentation import REASONS, Augmenter
from seq2seq_kit.inference.resumable import open_resumable
from seq2seq_kit.pretrained.catalog import run_path
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.text.pairs import pair_layout
from seq2seq_kit.text.references import SourceWithReferences
from seq2seq_kit.training.progress import describe_duration
from seq2seq_kit.training.run_folder import RunFolder

logger = logging.getLogger(__name__)

# Texts whose pairs are saved together: enough to fill batches with texts of similar length.
_LINES_AT_ONCE = 1024

_SECONDS_BETWEEN_REPORTS = 10.0

WITHOUT_EFFECT = ("batch_size", "threads")
"""Options of a search that change no output, so that they may change when the work goes on."""

UNWRITABLE = "unwritable"
"""The count of pairs that a TSV cannot hold."""


def augment(
    runs: Sequence[str | Path],
    lines: Iterable[SourceWithReferences],
    output: Path,
    options: AugmentationConfig,
    *,
    search: Mapping[str, Any] | None = None,
    num_lines: int | None = None,
) -> dict[str, int]:
    """Writes training pairs of texts and the outputs of runs for them; goes on after a stop.

    Args:
        runs: Run folders or names of packaged models; several are an ensemble.
        lines: The texts; with `keep: closest` with their references.
        output: The file, which appears when all pairs are in it. A `.jsonl` has objects with
            `source` and `target`; any other file is a TSV. Gzipped if the name ends with `.gz`.
        options: Which outputs are kept.
        search: Options of the search, fields of `DecodingConfig`; the others are as in the config
            of the first run.
        num_lines: The number of texts, for the forecast; None if it is not known.

    Returns:
        `pairs`, the number of pairs, `inputs`, the number of texts, and for each of `REASONS` and
        for pairs that a TSV cannot hold, how many were left out.

    Raises:
        InputError: If there is no text, an option or a run is wrong, or an unfinished file is of
            other texts, runs or options.
        RunError: If a run is damaged, or the file cannot be written.
    """
    layout = pair_layout(output)
    augmenter = Augmenter(Seq2Seq.load(list(runs)), options, dict(search or {}))
    counts = augmenter.counts
    kept = augmenter.decoding.model_dump(mode="json")
    job = {
        "runs": identify(runs),
        "options": options.model_dump(mode="json"),
        "options of the search": {k: v for k, v in kept.items() if k not in WITHOUT_EFFECT},
    }
    with open_resumable(output, job, "The pairs") as file:
        rest = file.skip_done(lines)
        counts.update(file.counts)
        if file.num_inputs:
            logger.info("Going on after %s lines.", f"{file.num_inputs:,}")
        progress = _Progress(num_lines, file.num_inputs)
        while chunk := list(islice(rest, _LINES_AT_ONCE)):
            texts = [layout(pair) for pair in augmenter.pairs(chunk)]
            written = [text for text in texts if text is not None]
            counts.update({"pairs": len(written), UNWRITABLE: len(texts) - len(written)})
            file.append(chunk, "".join(written), counts)
            progress.report(file.num_inputs, counts["pairs"])
        if not file.num_inputs:
            raise InputError("Expected at least one text. Received: none.")
        return {"pairs": 0, **counts, "inputs": file.num_inputs}


def describe_counts(counts: Mapping[str, int]) -> Iterator[str]:
    """Yields a sentence on what was written, and one for each reason to leave something out.

    Args:
        counts: As `augment` returns them.
    """
    yield f"{counts['pairs']:,} pairs of {counts['inputs']:,} lines."
    names = REASONS | {UNWRITABLE: "pairs with a tab or a line break, which a .jsonl can hold"}
    for reason, name in names.items():
        if number := counts.get(reason):
            yield f"Left out, {name}: {number:,}."


def identify(runs: Sequence[str | Path]) -> list[str]:
    """Returns a digest of the config and the weights of each run."""
    found = []
    for run in runs:
        folder = RunFolder(run_path(run)).open_trained()
        found.append(digest(f"{digest_file(folder.config)} {digest_file(folder.best)}".encode()))
    return found


class _Progress:
    """Reports every few seconds how far the work is.

    Args:
        num_lines: All lines; None if that is not known.
        num_done: Lines that were done before.
    """

    def __init__(self, num_lines: int | None, num_done: int) -> None:
        self._num_lines = num_lines
        self._first = num_done
        self._start = self._last = time.monotonic()

    def report(self, num_done: int, num_pairs: int) -> None:
        """Logs the numbers if the last report is old enough."""
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_REPORTS:
            return
        self._last = now
        rate = (num_done - self._first) / (now - self._start)
        left = ""
        if self._num_lines is not None:
            duration = describe_duration((self._num_lines - num_done) / rate)
            left = f" of {self._num_lines:,}, about {duration} left"
        done, pairs = f"{num_done:,}", f"{num_pairs:,}"
        logger.info("%s lines%s; %s pairs; %.3g lines/s", done, left, pairs, rate)
