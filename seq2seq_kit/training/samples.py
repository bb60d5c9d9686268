"""Examples of what a model outputs, by greedy search, logged at each validation."""

import logging
from collections.abc import Callable, Sequence

from seq2seq_kit.training.parts import TrainingPart, TrainingState

logger = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 240


class SampleLog(TrainingPart):
    """Logs the outputs for a few validation examples, the same ones each time.

    Args:
        sources: The inputs of all examples.
        targets: The output that the data have for each.
        generate: Returns the output of greedy search for each input.
        number: Examples to show; they are spread evenly over all of them.
    """

    def __init__(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        generate: Callable[[Sequence[str]], list[str]],
        number: int,
    ) -> None:
        number = min(number, len(sources))
        every = len(sources) // max(number, 1)
        self._sources = sources[::every][:number] if number else []
        self._targets = targets[::every][:number] if number else []
        self._generate = generate

    def after_validation(
        self, state: TrainingState, record: dict[str, float], counts: bool
    ) -> None:
        outputs = self._generate(self._sources) if self._sources else []
        for texts in zip(self._sources, outputs, self._targets, strict=True):
            logger.info("  in:     %s\n  greedy: %s\n  want:   %s", *map(_in_a_line, texts))


def _in_a_line(text: str) -> str:
    """Returns a text as one line of the log, cut to a few lines of a terminal."""
    text = text.replace("\n", "\\n")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
