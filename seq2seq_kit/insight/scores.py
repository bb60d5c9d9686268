"""How a score comes about: the surprise of each token, and what each source token adds."""

from dataclasses import dataclass

import numpy as np

from seq2seq_kit.errors import InputError
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.insight.subject import (
    TextModel,
    source_ids_of,
    target_ids_of,
    text_model,
    texts_of,
)


@dataclass(frozen=True)
class Surprise:
    """How little a model expected each token of a text."""

    tokens: tuple[str, ...]
    """The tokens of the text, its end included."""
    nats: np.ndarray
    """float32 `(tokens,)`. The negative log-probability of each after its source and the tokens
    before it: 0 where the model was certain."""


@dataclass(frozen=True)
class Omissions:
    """What changes when a source lacks one of its tokens."""

    tokens: tuple[str, ...]
    """The tokens of the source."""
    log_prob_changes: np.ndarray
    """float64 `(tokens,)`. The log-probability of the target without the token less that with it,
    in nats: far below 0 where the target depends on the token."""


def surprise(
    model: TextModel | ExportedModel, source: str, target: str | Hypothesis | None = None
) -> Surprise:
    """Returns how surprising each token of a target is after its source.

    Args:
        model: A `Seq2Seq` or an `ExportedModel`.
        source: The input; for a language model a prompt, "" for none.
        target: The text; None for the model's best output.

    Raises:
        InputError: If the source is over-long.

    Example:

        insight.surprise(writer, "", "I do not know where he is.").nats
    """
    model = text_model(model)
    source_ids = source_ids_of(model, source)
    target_ids = target_ids_of(model, source, target)
    log_probs = model.scorer.token_log_probs(source_ids, target_ids)
    return Surprise(texts_of(model.tokenizer, target_ids), -log_probs)


def leave_out(
    model: TextModel | ExportedModel, source: str, target: str | Hypothesis | None = None
) -> Omissions:
    """Returns how the log-probability of a target changes when a source token is left out.

    Unlike attention, which says where a decoder looks, this says what its output depends on.

    Args:
        model: A `Seq2Seq` or an `ExportedModel`.
        source: The input; for a language model a prompt.
        target: The text; None for the model's best output for the whole source.

    Raises:
        InputError: If the source is over-long, or `intervene` forces the attention of the model.

    Reference: Li et al., 2016, https://arxiv.org/abs/1612.08220
    """
    model = text_model(model)
    if model.inputs.num_tokens is not None:
        raise InputError(
            "`leave_out` shortens the source, for which forced attention has too many weights. "
            "Leave tokens out without `ForcedAttention`."
        )
    ids = source_ids_of(model, source)
    target_ids = target_ids_of(model, source, target)
    sources = [ids, *([*ids[:place], *ids[place + 1 :]] for place in range(len(ids)))]
    whole, *others = model.scorer.score_ids(sources, [target_ids] * len(sources))
    changes = np.array([other.log_prob - whole.log_prob for other in others], np.float64)
    return Omissions(texts_of(model.source_tokenizer, ids), changes)
