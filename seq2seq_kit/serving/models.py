"""What a server asks of a model: the same for a run, whose search is free, and for an export.

Knows nothing of HTTP. Options are checked in any thread; texts are searched in those of a worker.
"""

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from seq2seq_kit.config import Config, DecodingConfig
from seq2seq_kit.decoding.groups import LENGTH_STEP
from seq2seq_kit.errors import InputError
from seq2seq_kit.export.saved_model import ExportedModel, check_sampling
from seq2seq_kit.inference.generator import Hypothesis, check_num_hypotheses
from seq2seq_kit.insight.alignments import Aligner, Alignment
from seq2seq_kit.insight.subject import TextModel
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.serving.options import SearchOptions

_LINES_OF_AN_EXPORT = 64


@dataclass(frozen=True)
class AlignedHypothesis(Hypothesis):
    """A translation with the words of the source that its words come from."""

    alignment: Alignment = field(kw_only=True)
    """The words and the links between them."""


class Searcher(Protocol):
    """What searches with a model: the model itself, or a process that has loaded it too."""

    @property
    def is_ready(self) -> bool:
        """Whether it can search now."""

    def wait_until_ready(self) -> None:
        """Returns when it can search, or never will again."""

    def hypotheses(
        self,
        texts: Sequence[str],
        prefixes: Sequence[str],
        options: SearchOptions,
        *,
        first_line: int = 1,
    ) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each text, best first.

        Args:
            texts: The inputs.
            prefixes: A forced beginning for each output, "" for none; or nothing at all.
            options: The options.
            first_line: The number of the first text, for messages.

        Raises:
            InputError: If an input cannot be answered.
        """

    def stream(self, text: str, options: SearchOptions, prefix: str = "") -> Iterator[str]:
        """Yields the best output of a text piece by piece; errors as in `Generator.stream`."""


class ServedModel(Searcher, Protocol):
    """A model that a `Worker` serves; it can search itself."""

    is_ready: bool = True  # It is loaded before it is served.

    beam: int
    """Hypotheses of each text that the model's own options give: the signature `n_best`."""

    config: Config | None = None
    """The config, of which an export has a part; None for a model that cannot be looked into."""

    def text_model(self) -> TextModel:
        """Returns the model to look inside.

        Raises:
            InputError: If that is not possible.
        """
        raise InputError(
            "This model is an export of an earlier version, which has nothing to look into. "
            "Export the run again, or serve the run."
        )

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

    def lengths(self, texts: Sequence[str], options: SearchOptions) -> list[int]:
        """Returns for each text a number that is equal where a search pads texts alike.

        Raises:
            InputError: If an input is too long, where that can be known before the search.
        """

    def wait_until_ready(self) -> None:
        """Returns at once."""
        return

    def call(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Returns what a signature of an export gives that does not search, a value for each text.

        Args:
            signature: "score", "read" or "continue".
            inputs: Its inputs by name, as JSON has them.

        Raises:
            InputError: If the model has no such signature, or refuses the inputs.
        """


class ServedRun(ServedModel):
    """A trained run, or a packaged model.

    Args:
        model: The model.
    """

    def __init__(self, model: Seq2Seq) -> None:
        self._model = model
        self.config = model.config
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
        # A batch has lines of like length, which are one search, and the threads are the server's.
        decoding = self._defaults.override(**given).model_copy(update={"threads": 1})
        check_num_hypotheses(num_hypotheses, decoding)
        return SearchOptions(decoding, num_hypotheses, truncate, alignments)

    def batch_lines(self, options: SearchOptions) -> int:
        """Implements `ServedModel.batch_lines`."""
        return (options.decoding or self._defaults).batch_size

    def lengths(self, texts: Sequence[str], options: SearchOptions) -> list[int]:
        """Implements `ServedModel.lengths`."""
        rows = self._model.inputs.encode_rows(texts, truncate=options.truncate)
        # With the special token that is added to each.
        return [-(-(len(row) + 1) // LENGTH_STEP) for row in rows]

    def hypotheses(
        self,
        texts: Sequence[str],
        prefixes: Sequence[str],
        options: SearchOptions,
        *,
        first_line: int = 1,
    ) -> list[list[Hypothesis]]:
        """Implements `Searcher.hypotheses`.

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
            first_line=first_line,
        )
        if align is None:
            return list(found)

        def aligned(text: str, one: Hypothesis) -> AlignedHypothesis:
            alignment = align(text, one, truncate=options.truncate)
            return AlignedHypothesis(**vars(one), alignment=alignment)

        return [
            [aligned(text, one) for one in line] for text, line in zip(texts, found, strict=True)
        ]

    def text_model(self) -> TextModel:
        """Implements `ServedModel.text_model`."""
        return self._model

    @functools.cached_property
    def _aligner(self) -> Aligner:
        return Aligner(self._model)

    def call(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Implements `ServedModel.call`: of a run, for `score`."""
        if signature != "score":
            raise InputError(
                f"`{signature}` is a signature of an export of a language model that searches "
                f"greedily or samples. Received: a run. Export it, and serve the export."
            )
        model = self._model
        sources = model.inputs.encode_rows(inputs["inputs"])
        targets = model.tokenizer.encode(inputs["targets"])
        rows = [
            model.scorer.token_log_probs(source, [*target, model.scorer.ends_with]).tolist()
            for source, target in zip(sources, targets, strict=True)
        ]
        longest = max(map(len, rows))
        return {
            "log_probs": [sum(row) for row in rows],
            "num_tokens": [len(row) for row in rows],
            "token_log_probs": [row + [0.0] * (longest - len(row)) for row in rows],
        }

    def stream(self, text: str, options: SearchOptions, prefix: str = "") -> Iterator[str]:
        """Implements `Searcher.stream`."""
        return self._model.stream(
            text, decoding=options.decoding, prefix=prefix, truncate=options.truncate
        )


class ServedExport(ServedModel):
    """An exported SavedModel. Its search is fixed, and it cannot stream.

    Args:
        model: The export.
    """

    def __init__(self, model: ExportedModel) -> None:
        self._model = model
        self._rebuilding = threading.Lock()
        self.beam = int(model.metadata.get("num_hypotheses", 1))
        self.config = model.config if model.can_be_rebuilt else None

    def text_model(self) -> TextModel:
        """Implements `ServedModel.text_model`."""
        if self.config is None:
            return super().text_model()
        with self._rebuilding:  # Once, though several threads look inside at once.
            return self._model.rebuilt

    def options(
        self,
        given: dict[str, Any],
        *,
        num_hypotheses: int = 1,
        truncate: bool = False,
        alignments: bool = False,
    ) -> SearchOptions:
        """Implements `ServedModel.options`; an export takes those of sampling."""
        given = {name: value for name, value in given.items() if value is not None}
        samples = check_sampling(
            self._model.metadata, given.pop("sample", None), given.pop("seed", None), num_hypotheses
        )
        names = [*given, *["truncate"] * truncate, *["alignments"] * alignments]
        if names:
            sampling = {} if samples is None else {"sample": True}
            # A misspelled name is one first.
            DecodingConfig().override(("truncate", "alignments"), **given, **sampling)
            raise InputError(
                f"This model is an exported SavedModel, whose search is fixed. Received: "
                f"{', '.join(names)}. Leave these options out, or serve the run."
            )
        if samples is not None:
            return SearchOptions(samples, num_hypotheses)
        if num_hypotheses > self.beam:
            raise InputError(
                f"`num_hypotheses` must be at most {self.beam}, the beam of the export. Received: "
                f"{num_hypotheses}."
            )
        return SearchOptions(None, num_hypotheses)

    def batch_lines(self, options: SearchOptions) -> int:
        """Implements `ServedModel.batch_lines`."""
        return _LINES_OF_AN_EXPORT

    def lengths(self, texts: Sequence[str], options: SearchOptions) -> list[int]:
        """Implements `ServedModel.lengths`: only the graph of an export knows its tokens."""
        return [0] * len(texts)

    def hypotheses(
        self,
        texts: Sequence[str],
        prefixes: Sequence[str],
        options: SearchOptions,
        *,
        first_line: int = 1,
    ) -> list[list[Hypothesis]]:
        """Implements `Searcher.hypotheses`, without prefixes."""
        if prefixes:
            raise InputError("An exported SavedModel accepts no `prefixes`. Serve the run.")
        samples = options.decoding
        found = self._model.hypotheses(
            texts,
            num_hypotheses=options.num_hypotheses,
            sample=None if samples is None else True,
            seed=None if samples is None else samples.seed,
            first_line=first_line,
            threads=1,
        )
        return list(found)

    def call(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Implements `ServedModel.call`."""
        found = self._model.signatures.call(signature, inputs)
        return {name: _plain(values) for name, values in found.items()}

    def stream(self, text: str, options: SearchOptions, prefix: str = "") -> Iterator[str]:
        """Implements `Searcher.stream`, which an export cannot do."""
        raise InputError(
            "An exported SavedModel searches for whole outputs. Leave `stream` out, or serve the "
            "run."
        )


def _plain(values: np.ndarray) -> list[Any]:
    """Returns an array as lists, with texts for bytes."""
    if values.dtype == object:
        values = np.vectorize(bytes.decode, otypes=[object])(values)
    found: list[Any] = values.tolist()
    return found
