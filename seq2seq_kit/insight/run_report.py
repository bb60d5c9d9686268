"""The report of a training run, from what the training has at hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.config import Config
from seq2seq_kit.data.encoded import EncodedData, Sequences
from seq2seq_kit.data.texts import TextPairs
from seq2seq_kit.inference.build import build_scorer
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.inference.inputs import input_encoder
from seq2seq_kit.insight.examples import Subject, collect_examples
from seq2seq_kit.insight.report import LiveReport, ReportFacts, explain_examples, write_report
from seq2seq_kit.special_ids import UNK_ID
from seq2seq_kit.training.advice import advise, advise_on_data
from seq2seq_kit.training.distribution import is_chief
from seq2seq_kit.training.labels import labeled_results
from seq2seq_kit.training.parts import TrainingPart
from seq2seq_kit.training.records import Record
from seq2seq_kit.training.run_folder import RunFolder
from seq2seq_kit.training.start import RunStart

# Tokens show whether a vocabulary lacks some; more of them say no more.
_COUNTED_TOKENS = 1_000_000
_MOST_ADVICE = 10


class RunReport:
    """Writes the report of a run while it trains and when it has ended.

    Args:
        config: The resolved config.
        run: The run folder.
        start: What training started with.
        generator: Writes the outputs.
        texts: The validation texts.
    """

    def __init__(
        self,
        config: Config,
        run: RunFolder,
        start: RunStart,
        generator: Generator,
        texts: TextPairs,
    ) -> None:
        self._config = config
        self._run = run
        self._start = start
        self._generator = generator
        self._texts = texts

    def parts(self, strategy: tf.distribute.Strategy) -> list[TrainingPart]:
        """Returns what writes the report while the run trains; nothing if the config says so."""
        if not self._is_wanted(strategy):
            return []
        return [LiveReport(self._run, lambda history: self._facts(history, "Training runs"))]

    def write(
        self,
        strategy: tf.distribute.Strategy,
        history: Sequence[Record],
        state: str,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes the report; with examples if there are results.

        Args:
            strategy: Only its chief writes.
            history: A record for each validation.
            state: Whether and why training ended, as a clause.
            results: The results of training, whose weights the network has; None before its end.
        """
        if self._is_wanted(strategy):
            write_report(self._run, lambda: self._facts(history, state, results))

    def _is_wanted(self, strategy: tf.distribute.Strategy) -> bool:
        return self._config.training.report and is_chief(strategy)

    def _facts(
        self, history: Sequence[Record], state: str, results: Mapping[str, Any] | None = None
    ) -> ReportFacts:
        subject = self._subject()
        examples = None if results is None else collect_examples(subject, self._texts)
        attentions, surprises = explain_examples(subject, examples) if examples else ({}, {})
        return ReportFacts(
            name=self._run.path.resolve().name,
            state=state,
            task=self._config.task,
            history=history,
            advice=self._advice(history, results or {}),
            counts=self._counts(history, results or {}),
            results=labeled_results(results or {}),
            examples=examples,
            attentions=attentions,
            surprises=surprises,
        )

    def _subject(self) -> Subject:
        config, tokenizers = self._config, self._start.tokenizers
        return Subject(
            self._start.model,
            tokenizers.target,
            tokenizers.source,
            config,
            input_encoder(config, tokenizers.source),
            self._generator,
            build_scorer(config, self._start.model, tokenizers),
        )

    def _counts(self, history: Sequence[Record], results: Mapping[str, Any]) -> dict[str, str]:
        """Returns the numbers at the head of the page."""
        tokenizers, data = self._start.tokenizers, self._start.data
        counts = {}
        if history:
            last, best = history[-1], min(record["val_loss"] for record in history)
            counts = {
                "steps": f"{last['step']:,.0f}",
                "minutes": f"{results.get('minutes', last['seconds'] / 60):.1f}",
                "best validation loss": f"{best:.3f}",
            }
        sizes = {one.vocab_size for one in tokenizers}
        return counts | {
            "parameters": f"{self._start.model.count_params():,}",
            "vocabulary": " and ".join(f"{size:,}" for size in sorted(sizes)),
            "training tokens": f"{int(data.train.target.lengths.sum()):,}",
            "validation tokens": f"{int(data.validation.target.lengths.sum()):,}",
        }

    def _advice(self, history: Sequence[Record], results: Mapping[str, Any]) -> list[str]:
        """Returns what to try next; nothing before the first validation."""
        data, size = self._start.data, self._start.tokenizers.target.vocab_size
        report = data.train.report
        return [
            *advise(self._config, history, results, size, most=_MOST_ADVICE),
            *advise_on_data(
                self._config,
                history,
                unknown=_unknown_share(data.validation),
                too_long=(report.too_long + report.truncated) / max(report.lines, 1),
            ),
        ]


def _unknown_share(data: EncodedData) -> float:
    """Returns the share of unknown tokens on the side that has more of them."""
    sides = [side for side in (data.source, data.target) if side is not None]
    return max(map(_share_of_unknown, sides))


def _share_of_unknown(side: Sequences) -> float:
    ids = [side[row][:_COUNTED_TOKENS] for row in range(min(len(side), 10_000))]
    flat = np.concatenate(ids) if ids else np.zeros(0, np.int32)
    return float(np.mean(flat == UNK_ID)) if len(flat) else 0.0
