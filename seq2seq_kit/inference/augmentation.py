"""Training pairs from the outputs of a model: distillation, back-translation and self-training.

References: Kim and Rush, 2016, https://aclanthology.org/D16-1139; Sennrich et al., 2016,
https://aclanthology.org/P16-1009.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from seq2seq_kit.config import AugmentationConfig, Config, DecodingConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.inference.inputs import InputEncoder
from seq2seq_kit.text.pairs import TextPair
from seq2seq_kit.text.references import SourceWithReferences
from seq2seq_kit.tokens.tokenizer import Tokenizer

REASONS = {
    "empty_inputs": "empty inputs",
    "long_inputs": "inputs that are too long for the model",
    "empty_outputs": "empty outputs",
    "cut_outputs": "outputs cut at the length limit",
    "copies": "outputs equal to their input",
    "uneven": "pairs of too different lengths",
    "unlikely": "outputs with a low score",
    "repeated": "repeated samples",
}
"""Why a text or an output is left out, in the order in which it is checked, and what a report calls
them."""


class Translator(Protocol):
    """A `Seq2Seq`: what is needed of it here."""

    tokenizer: Tokenizer
    source_tokenizer: Tokenizer
    config: Config
    inputs: InputEncoder

    def hypotheses(self, texts: Iterable[str], **options: Any) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text, or samples."""


class Augmenter:
    """Makes training pairs of texts and the outputs of a model for them.

    Args:
        model: The model, or an ensemble.
        options: Which outputs are kept.
        search: Options of the search, fields of `DecodingConfig`; those of the model's config
            unless they are given. Whether it samples follows from `options.keep`.

    Raises:
        InputError: If the model continues prompts, or an option is unknown, out of range, or
            contradicts another.
    """

    def __init__(
        self, model: Translator, options: AugmentationConfig, search: dict[str, Any]
    ) -> None:
        if model.config.task != "translation":
            raise InputError(
                "Pairs are made by a model for translation. Received: a model that continues "
                "prompts."
            )
        self.decoding, self._search = search_options(model.config, options, search)
        """The options of the search."""
        self._num_hypotheses = {
            "best": 1,
            "closest": self.decoding.beam_size,
            "sample": options.samples,
        }[options.keep]
        self.model = model
        self.options = options
        self.counts: Counter[str] = Counter()
        """How many texts and outputs were left out, by their reason in `REASONS`."""
        tokenize = model.config.data.bleu_tokenize
        # `force` keeps sacrebleu from warning of text that is tokenized already.
        bleu = BLEU(tokenize=tokenize, effective_order=True, force=True)
        self._metric = bleu if options.metric == "bleu" else CHRF()

    def pairs(self, lines: Sequence[SourceWithReferences]) -> list[TextPair]:
        """Returns the pairs of some texts, in their order.

        Args:
            lines: The texts; with `keep: closest` each has its references.
        """
        texts = [line.source for line in lines]
        lengths = list(map(len, self.model.source_tokenizer.encode(texts)))
        too_long = {place for place, _ in self.model.inputs.overlong(texts)}
        empty = {place for place, length in enumerate(lengths) if not length}
        self.counts.update(empty_inputs=len(empty), long_inputs=len(too_long))
        usable = [place for place in range(len(lines)) if place not in empty | too_long]
        found = self.model.hypotheses(
            [texts[place] for place in usable],
            num_hypotheses=self._num_hypotheses,
            first_line=1,
            **self._search,
        )
        pairs = []
        for place, hypotheses in zip(usable, found, strict=True):
            kept = self._choose(hypotheses, lines[place].references)
            for hypothesis in kept:
                reason = self._fault(texts[place], lengths[place], hypothesis)
                if reason is None:
                    pairs.append(self._pair(texts[place], hypothesis.text))
                else:
                    self.counts[reason] += 1
        return pairs

    def _choose(
        self, hypotheses: Sequence[Hypothesis], references: Sequence[str]
    ) -> Sequence[Hypothesis]:
        """Returns the outputs of a text that are kept unless they have a fault."""
        if self.options.keep == "sample":
            distinct: dict[str, Hypothesis] = {}
            for one in hypotheses:
                distinct.setdefault(one.text, one)
            self.counts["repeated"] += len(hypotheses) - len(distinct)
            return list(distinct.values())
        if self.options.keep == "best":
            return hypotheses[:1]
        normalize = self.model.tokenizer.normalize
        normalized = list(map(normalize, references))

        def closeness(hypothesis: Hypothesis) -> float:
            return self._metric.sentence_score(normalize(hypothesis.text), normalized).score

        return [max(hypotheses, key=closeness)]  # Of equal ones the first, which scores highest.

    def _fault(self, text: str, length: int, hypothesis: Hypothesis) -> str | None:
        """Returns why an output is left out; None if it is kept."""
        options = self.options
        sides = (length + 1, len(hypothesis.token_ids) + hypothesis.is_cut)
        if not hypothesis.text.strip():
            return "empty_outputs"
        if hypothesis.is_cut and not options.keep_cut:
            return "cut_outputs"
        if options.drop_copies and hypothesis.text == self.model.tokenizer.normalize(text):
            return "copies"
        if options.max_length_ratio and max(sides) > options.max_length_ratio * min(sides):
            return "uneven"
        if options.min_score and hypothesis.score < options.min_score:
            return "unlikely"
        return None

    def _pair(self, text: str, output: str) -> TextPair:
        source, target = (output, text) if self.options.back_translation else (text, output)
        return TextPair(f"{self.options.tag} {source}" if self.options.tag else source, target)


def search_options(
    config: Config, options: AugmentationConfig, search: dict[str, Any]
) -> tuple[DecodingConfig, dict[str, Any]]:
    """Returns the checked options of the search, and those to give to `hypotheses`.

    Raises:
        InputError: If an option is unknown, out of range, or contradicts another.
    """
    samples = options.keep == "sample"
    if search.get("sample") not in (None, samples):
        raise InputError(
            f"`sample` follows from `keep`, which is {options.keep}. Leave it out, or choose "
            f"`keep: sample`."
        )
    search = {name: value for name, value in search.items() if value is not None}
    search["sample"] = samples
    decoding = config.decoding.override(**search)
    return decoding, search
