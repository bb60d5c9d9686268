"""The options of `s2s augment`: which outputs of a model become training pairs."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from seq2seq_kit import bounds
from seq2seq_kit.config.section import Section, Switch


class AugmentationConfig(Section):
    """Which outputs of a model are kept as training pairs, and how they are written."""

    keep: Literal["best", "closest", "sample"] = "best"
    """Which outputs are kept: the best one of the search; of the whole beam the one closest to the
    reference (Kim and Rush, 2016, call this interpolation); or samples from the distribution of the
    model."""
    samples: Annotated[int, Field(ge=1, le=bounds.MAX_BEAM_SIZE, strict=True)] = 1
    """With samples: the number of samples of each text. Equal ones are written once."""
    metric: Literal["bleu", "chrf"] = "bleu"
    """With closest: the sentence-level metric of sacrebleu that compares an output with its
    reference."""
    back_translation: Switch = False
    """Write each output as the source and the text that was read as the target (Sennrich et al.,
    2016): the model translates from the target language to the source language."""
    tag: Annotated[str, Field(pattern=r"^\S*$")] = ""
    """A word that is put before each source, with a space between them, such as <bt>, so that a
    model can tell these pairs from others (Caswell et al., 2019). Declare it under
    `tokenizer.user_defined_symbols` of the model that learns from them."""
    keep_cut: Switch = False
    """Keep outputs that were cut at `decoding.max_length`, too."""
    drop_copies: Switch = False
    """Leave out outputs that equal the text that was read."""
    max_length_ratio: Annotated[float, Field(ge=0.0, le=bounds.MAX_LENGTH_RATIO, strict=True)] = 0.0
    """Leave out a pair if one side has more than this many times the tokens of the other, the end
    of each text counted as a token; 0 keeps all."""
    min_score: Annotated[float, Field(ge=-bounds.MAX_NATS, le=0.0, strict=True)] = 0.0
    """Leave out outputs with a lower score, the log-probability under the length penalty that `s2s
    generate --scores` writes; 0 keeps all."""

    def override(self, **options: Any) -> Self:
        """Returns these options with others in place of some; None leaves a field as it is.

        Raises:
            InputError: If a value is not allowed.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return self.model_copy(update=self.check_values(given))

    def contradictions(self, given: Iterable[str]) -> dict[str, str]:
        """Returns which of the given options have no effect beside the others, each with why."""
        needed = {"samples": "sample", "metric": "closest"}
        return {
            name: f"has an effect only with `keep: {needed[name]}`."
            for name in given
            if name in needed and self.keep != needed[name]
        }
