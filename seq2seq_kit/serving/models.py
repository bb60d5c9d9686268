"""What a server asks of a model: the same for a run, whose search is free, and for an export.

Knows nothing of HTTP. Options are checked in any thread; texts are searched in the model's own.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.inference.generator import Hypothesis, check_num_hypotheses
from seq2seq_kit.insight.alignments import Aligner, Alignment
from seq2seq_kit.seq2seq import Seq2Seq

_LINES_OF_AN_EXPORT = 64


class SearchOptions(NamedTuple):
    """The options of a search: requests that share them can be answered in one batch."""

    decoding: DecodingConfig | None
    """None for an export, whose search is fixed."""
    num_hypotheses: int = 1
    """Hypotheses of each text."""
    truncate: bool = False
    """Whether inputs that are too long are cut."""
    alignments: bool = False
    """Whether each hypothesis is an `AlignedHypothesis`."""


@dataclass(frozen=True)
class AlignedHypothesis(Hypothesis):
    """A translation with the words of the source that its words come from."""

    alignment: Alignment = field(kw_only=True)
    """The words and the links between them."""


class ServedModel(Protocol):
    """A model that a `Worker` runs."""

    beam: int
    """Hypotheses of each text that the model's own options give: the signature `n_best`."""

    def options(
        self,
        given: dict[str, Any],
        *,
        num_hypotheses: int = 1,
        truncate: bool = False,
        alignments: bool = False,
    ) -> SearchOptions:
        """Returns checked options.

        Args:
            given: Fields of `DecodingConfig` to use in place of the model's own.
            num_hypotheses: Hypotheses of each text.
            truncate: Whether to cut inputs that are too long.
            alignments: Whether to align the words of each hypothesis with those of its input.

        Raises:
            InputError: If one is unknown or not allowed.
        """

    def batch_lines(self, options: SearchOptions) -> int:
        """Returns how many lines are worth searching together."""

    def check(self, texts: Sequence[str], options: SearchOptions) -> None:
        """Raises InputError if an input is too long, where that can be known before the search."""

    def hypotheses(
        self, texts: Sequence[str], prefixes: Sequence[str], options: SearchOptions
    ) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each text, best first.

        Args:
            texts: The inputs.
            prefixes: A forced beginning for each output, "" for none; or nothing at all.
            options: The options.

        Raises:
            InputError: If an input cannot be answered.
        """

    def stream(self, text: str, options: SearchOptions) -> Iterator[str]:
        """Yields the best output of a text piece by piece; errors as in `Generator.stream`."""


class ServedRun:
    """A trained run, or a packaged model.

    Args:
        model: The model.
    """

    def __init__(self, model: Seq2Seq) -> None:
        self._model = model
        self._defaults = model.config.decoding
        self.beam = 1 if self._defaults.sample else self._defaults.beam_size

    def options(
        self,
        given: dict[str, Any],
        *,
        num_hypotheses: int = 1,
        truncate: bool = False,
        alignments: bool = False,
    ) -> SearchOptions:
        """Implements `ServedModel.options`."""
        decoding = self._defaults.override(**given)
        check_num_hypotheses(num_hypotheses, decoding)
        return SearchOptions(decoding, num_hypotheses, truncate, alignments)

    def batch_lines(self, options: SearchOptions) -> int:
        """Implements `ServedModel.batch_lines`."""
        return (options.decoding or self._defaults).batch_size

    def check(self, texts: Sequence[str], options: SearchOptions) -> None:
        """Implements `ServedModel.check`."""
        self._model.inputs.encode_rows(texts, truncate=options.truncate)

    def hypotheses(
        self, texts: Sequence[str], prefixes: Sequence[str], options: SearchOptions
    ) -> list[list[Hypothesis]]:
        """Implements `ServedModel.hypotheses`.

        Raises:
            InputError: Also if the model aligns no words.
        """
        align = self._aligner if options.alignments else None  # Its error comes first.
        found = self._model.hypotheses(
            texts,
            decoding=options.decoding,
            num_hypotheses=options.num_hypotheses,
            truncate=options.truncate,
            prefixes=prefixes or None,
        )
        if align is None:
            return list(found)

        def aligned(text: str, one: Hypothesis) -> AlignedHypothesis:
            alignment = align(text, one, truncate=options.truncate)
            return AlignedHypothesis(**vars(one), alignment=alignment)

        return [
            [aligned(text, one) for one in line] for text, line in zip(texts, found, strict=True)
        ]

    @functools.cached_property
    def _aligner(self) -> Aligner:
        return Aligner(self._model)

    def stream(self, text: str, options: SearchOptions) -> Iterator[str]:
        """Implements `ServedModel.stream`."""
        return self._model.stream(text, decoding=options.decoding, truncate=options.truncate)


class ServedExport:
    """An exported SavedModel. Its search is fixed, and it cannot stream.

    Args:
        model: The export.
    """

    def __init__(self, model: ExportedModel) -> None:
        self._model = model
        self.beam = int(model.metadata.get("num_hypotheses", 1))

    def options(
        self,
        given: dict[str, Any],
        *,
        num_hypotheses: int = 1,
        truncate: bool = False,
        alignments: bool = False,
    ) -> SearchOptions:
        """Implements `ServedModel.options`; an export accepts `num_hypotheses` only."""
        given = {name: value for name, value in given.items() if value is not None}
        names = [*given, *["truncate"] * truncate, *["alignments"] * alignments]
        if names:
            DecodingConfig().override(
                ("truncate", "alignments"), **given
            )  # A misspelled name is one first.
            raise InputError(
                f"This model is an exported SavedModel, whose search is fixed. Received: "
                f"{', '.join(names)}. Leave these options out, or serve the run."
            )
        if num_hypotheses > self.beam:
            raise InputError(
                f"`num_hypotheses` must be at most {self.beam}, the beam of the export, or its one "
                f"sample. Received: {num_hypotheses}."
            )
        return SearchOptions(None, num_hypotheses)

    def batch_lines(self, options: SearchOptions) -> int:
        """Implements `ServedModel.batch_lines`."""
        return _LINES_OF_AN_EXPORT

    def check(self, texts: Sequence[str], options: SearchOptions) -> None:
        """Implements `ServedModel.check`: only the graph of an export knows its tokens."""

    def hypotheses(
        self, texts: Sequence[str], prefixes: Sequence[str], options: SearchOptions
    ) -> list[list[Hypothesis]]:
        """Implements `ServedModel.hypotheses`, without prefixes."""
        if prefixes:
            raise InputError("An exported SavedModel accepts no `prefixes`. Serve the run.")
        return self._model.hypotheses(texts, num_hypotheses=options.num_hypotheses)

    def stream(self, text: str, options: SearchOptions) -> Iterator[str]:
        """Implements `ServedModel.stream`, which an export cannot do."""
        raise InputError(
            "An exported SavedModel searches for whole outputs. Leave `stream` out, or serve the "
            "run."
        )
