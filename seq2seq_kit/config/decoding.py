"""The `decoding` section: the only list of the options of a search."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BeforeValidator, Field

from seq2seq_kit import bounds
from seq2seq_kit.config.section import BatchSize, Precision, Section, Share, Switch, Tokens, as_list
from seq2seq_kit.errors import InputError, suggest


class GraphNumber(NamedTuple):
    """Marks a number that graphs take as a tensor, so that another value needs no new graph."""

    dtype: str


class OnlyWhenSampling:
    """Marks an option that has an effect only with `sample: true`."""


class DecodingConfig(Section):
    """How outputs are searched for: the defaults of `generate`, `evaluate` and `export`."""

    beam_size: Annotated[int, Field(ge=1, le=bounds.MAX_BEAM_SIZE, strict=True)] = 5
    """Hypotheses that beam search keeps at each step; 1 is greedy search. Not used when sampling;
    an option above 1 turns sampling off."""
    length_penalty: Annotated[
        float, Field(ge=0.0, le=bounds.MAX_LENGTH_PENALTY, strict=True), GraphNumber("float32")
    ] = 1.0
    """The score of a hypothesis is its log-probability divided by ((5 + length) / 6) to this power;
    0 ranks by log-probability alone."""
    max_length: Annotated[Tokens, GraphNumber("int32")] = 100
    """Largest number of generated tokens, EOS not counted. A config that leaves it out gets
    `data.max_target_length`. Outputs that are cut at this length are counted and marked."""
    min_length: Annotated[int, Field(ge=0, le=bounds.MAX_TOKENS, strict=True)] = 0
    """Smallest number of generated tokens, EOS not counted."""
    sample: Switch = False
    """Draw each token at random from the model's distribution instead of searching for the most
    likely output. A config for continuation that leaves it out gets true."""
    temperature: Annotated[
        float,
        Field(gt=0.0, le=bounds.MAX_TEMPERATURE, strict=True),
        GraphNumber("float32"),
        OnlyWhenSampling(),
    ] = 1.0
    """Sampling: logits are divided by it. Below 1, likely tokens become more likely; above 1, less
    likely. A config for continuation that leaves it out gets 0.8."""
    top_k: Annotated[
        int, Field(ge=0, le=bounds.MAX_VOCAB_SIZE, strict=True), OnlyWhenSampling()
    ] = 0
    """Sampling: draw from this number of most likely tokens; 0 draws from all."""
    top_p: Annotated[Share, OnlyWhenSampling()] = 1.0
    """Sampling: draw from the most likely tokens that together have this probability; 1 draws from
    all. A config for continuation that leaves it out gets 0.9."""
    min_p: Annotated[
        float,
        Field(ge=0.0, le=1.0, strict=True),
        GraphNumber("float32"),
        OnlyWhenSampling(),
    ] = 0.0
    """Sampling: draw only from tokens with at least this share of the probability of the most
    likely token; 0 draws from all."""
    seed: Annotated[
        int,
        Field(ge=0, lt=bounds.SEEDS, strict=True),
        GraphNumber("int64"),
        OnlyWhenSampling(),
    ] = 1
    """Sampling: another seed gives other samples. With the same seed, a text always has the same
    samples, whatever other texts are generated with it."""
    repetition_penalty: Annotated[
        float, Field(ge=1.0, le=bounds.MAX_REPETITION_PENALTY, strict=True)
    ] = 1.0
    """Makes tokens that the output contains already less likely: a positive logit is divided by
    this number, a negative one multiplied; 1 changes nothing."""
    no_repeat_ngram: Annotated[int, Field(ge=0, le=bounds.MAX_NGRAM, strict=True)] = 0
    """No output contains the same sequence of this many tokens twice; 0 allows it."""
    max_loop_characters: Annotated[int, Field(ge=0, le=bounds.MAX_COUNT, strict=True)] = 0
    """Characters that an output may repeat back to back; a wide one, such as a Chinese character,
    counts as two. A loop ends before it has this many, but not before a passage has been repeated
    once. Repetitions with other text between them, such as refrains, are always possible. 0 allows
    loops. A config for continuation that leaves it out gets 24."""
    banned_texts: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(as_list)
    ] = ()
    """Texts that no output contains, also as a part of a word."""
    batch_size: Annotated[BatchSize, GraphNumber("int32")] = 64
    """Lines that are decoded together; outputs do not depend on it."""
    threads: Annotated[int, Field(ge=0, le=bounds.MAX_THREADS, strict=True)] = 0
    """Threads that decode different lines at the same time, at most one on each core; 0 uses all
    cores that the process may use. Outputs do not depend on it. Not stored in an export."""
    shortlist: Switch = False
    """Choose from frequent tokens and from likely translations of the input's tokens only: faster,
    and seldom with another output. Translation only."""
    precision: Precision = "float32"
    """Number format of matrix products: bfloat16 is faster on processors that have it."""

    @classmethod
    def graph_numbers(cls) -> dict[str, str]:
        """Returns the fields that a graph takes as tensors, each with its dtype."""
        return {
            name: mark.dtype
            for name, field in cls.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, GraphNumber)
        }

    def of_graph(self) -> Self:
        """Returns the options of which each choice needs another graph; None for the others."""
        return self.model_copy(update=dict.fromkeys([*self.graph_numbers(), "threads"]))

    @classmethod
    def sampling_options(cls) -> list[str]:
        """Returns the fields that have an effect only with `sample: true`."""
        return [
            name
            for name, field in cls.model_fields.items()
            if any(isinstance(mark, OnlyWhenSampling) for mark in field.metadata)
        ]

    def merge(self, other: Self | None) -> Self:
        """Returns these options with those that were set in another object in place of them."""
        if other is None:
            return self
        # A resolved config sets every key, also those without effect beside the others.
        return self._changed({name: getattr(other, name) for name in other.model_fields_set})

    def override(self, other_names: Sequence[str] = (), /, **options: Any) -> Self:
        """Returns these options with others in place of some, checked as a config is.

        A beam of more than 1 turns sampling off, unless `sample` is given too.

        Args:
            other_names: Further names that the caller knows, for the message on an unknown name.
            **options: Fields with their values; None leaves a field as it is. A NumPy scalar
                counts as the number it holds.

        Raises:
            InputError: If a name is unknown, a value is not allowed, or an option for sampling is
                given where nothing is sampled.
        """
        names = [*type(self).model_fields, *other_names]
        for name in options:
            if name not in names:
                raise InputError(f"`{name}` is an unknown option. {suggest_option(name, names)}")
        given = {
            name: value.item() if getattr(value, "shape", None) == () else value
            for name, value in options.items()
            if value is not None
        }
        result = self._changed(self.check_values(given))
        if contradictions := result.contradictions(given):
            raise InputError("\n".join(f"`{key}` {text}" for key, text in contradictions.items()))
        return result

    def _changed(self, values: dict[str, Any]) -> Self:
        """Returns these options with others in place of some; a beam turns sampling off."""
        if values.get("beam_size", 1) > 1:
            values = {"sample": False} | values
        return self.model_copy(update=values)

    def contradictions(self, given: Iterable[str]) -> dict[str, str]:
        """Returns which of the given options contradict others, each with what is wrong."""
        if self.min_length > self.max_length:
            name = "min_length" if "min_length" in given else "max_length"
            return {
                name: f"contradicts the other limit: min_length {self.min_length} is more than "
                f"max_length {self.max_length}."
            }
        if self.sample:
            if "beam_size" in given and self.beam_size > 1:
                return {
                    "beam_size": "must be 1 where `sample` is true, since sampling keeps no beam."
                    f" Received: {self.beam_size}. Leave one of them out."
                }
            return {}
        return {
            name: "has an effect only with `sample: true` (--sample, in Python sample=True)."
            for name in given
            if name in self.sampling_options()
            and getattr(self, name) != type(self).model_fields[name].default
        }


def suggest_option(name: str, known: Sequence[str]) -> str:
    """Returns what to use in place of an unknown option of a search."""
    if name == "greedy":  # A flag of the command line.
        return "Use sample=False, beam_size=1."
    return suggest(name, known)
