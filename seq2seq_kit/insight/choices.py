"""What a model could have written in place of a token, and how likely each of it was."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.insight.subject import TextModel, source_ids_of, target_ids_of, text_model
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID


@dataclass(frozen=True)
class Alternative:
    """A token that a model could write next."""

    token: str
    """The token, with U+2581 for a space."""
    log_prob: float
    """How likely it is after the source and the tokens before it, in nats."""
    text: str
    """The text up to and with the token: a prefix that forces it. Half a character is U+FFFD."""
    is_end: bool
    """Whether it ends the text."""


def alternatives(
    model: TextModel | ExportedModel,
    source: str,
    target: str | Hypothesis | None = None,
    *,
    step: int,
    count: int = 10,
) -> tuple[Alternative, ...]:
    """Returns the tokens that a model finds likeliest at a place of a target, the likeliest first.

    Args:
        model: A `Seq2Seq` or an `ExportedModel`.
        source: The input; for a language model a prompt, "" for none.
        target: The text; None for the model's best output.
        step: The place of the token, from 0, as in `Surprise.tokens`.
        count: How many tokens.

    Raises:
        InputError: If the source is over-long, there is no such place, or `count` is not
            positive.

    Example:

        for one in insight.alternatives(translator, "Guten Morgen!", step=0):
            print(one.token, one.log_prob)
    """
    check_not_forked()
    model = text_model(model)
    source_ids = source_ids_of(model, source)
    target_ids = target_ids_of(model, source, target)
    if not 0 <= step < len(target_ids):
        raise InputError(
            f"`step` must be from 0 to {len(target_ids) - 1}, the places of the tokens of the "
            f"target. Received: {shorten(step)}."
        )
    if count < 1:
        raise InputError(f"`count` must be 1 or more. Received: {shorten(count)}.")
    log_probs = _log_probs(model, source_ids, target_ids[:step])
    log_probs[[PAD_ID, UNK_ID, BOS_ID]] = -np.inf  # No search writes these.
    best = np.argsort(-log_probs, kind="stable")[: min(count, len(log_probs) - 3)]
    pieces = model.tokenizer.pieces
    texts = model.tokenizer.decode([[*target_ids[:step], token_id] for token_id in best])
    ends = {EOS_ID, model.scorer.ends_with}
    return tuple(
        Alternative(pieces[token_id], float(log_probs[token_id]), text, int(token_id) in ends)
        for token_id, text in zip(best, texts, strict=True)
    )


def _log_probs(model: TextModel, source_ids: Sequence[int], before: Sequence[int]) -> np.ndarray:
    """Returns the log-probability of each token after others, float32 `(vocab_size,)`."""
    network = model.model
    if isinstance(network, LanguageModel):
        inputs = {"decoder_input_ids": np.array([[BOS_ID, *source_ids, *before]])}
    else:
        inputs = {
            "source_ids": np.array([[*source_ids, EOS_ID]]),
            "decoder_input_ids": np.array([[BOS_ID, *before]]),
        }
    # Logits of the last position only: those of a long text would fill the memory.
    outputs = network.decoder_outputs(inputs)[:, -1]
    logits = np.asarray(network.output_layer().logits(outputs))[0].astype(np.float64)
    logits -= logits.max()
    return logits - np.log(np.exp(logits).sum())
