"""What an output begins with: the end of its prompt, spelled again, or a text that it must have.

Both are token ids that are fed to the network before the search, which then chooses the tokens
after them.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq_kit.decoding import Decoder, SearchInputs, SearchResult
from seq2seq_kit.decoding.byte_tree import MAX_TOKENS
from seq2seq_kit.decoding.healing import Healer, PromptEnds, expand_like
from seq2seq_kit.decoding.loop import run_while
from seq2seq_kit.inference.inputs import Inputs, Prefixes
from seq2seq_kit.special_ids import EOS_ID, PAD_ID


class Given(NamedTuple):
    """The first tokens of the outputs of some lines, which no search chose."""

    token_ids: tf.Tensor
    """int32 `(lines, time)`, left-aligned."""
    lengths: tf.Tensor
    """int32 `(lines,)`. Tokens of each."""


class Seams(NamedTuple):
    """Inputs without the ends that outputs may join."""

    token_ids: tf.Tensor
    """int32 `(lines, time)`. The tokens that are kept, right-padded."""
    lengths: tf.Tensor
    """int32 `(lines,)`. Tokens that are kept."""
    ends: PromptEnds | None
    """The ends that were taken back; None where nothing is healed."""
    before: Any
    """int32 `(lines, None)`. The last token that was kept of each prompt, if any: the tokenizer
    needs it to know whether the text after it begins with a space. () where nothing is healed."""
    taken_back: Any
    """int32 `(lines, None)`. The tokens that were taken back of each prompt; () as `before`."""


def take_back_prompts(healer: Healer, inputs: Inputs) -> Seams:
    """Takes back the ends of a language model's prompts; BOS is kept."""
    token_ids, lengths, lost_space, _ = inputs
    place = tf.range(tf.shape(token_ids)[1])
    ends = healer.take_back(token_ids, lengths, lost_space & (lengths > 1))
    kept = lengths - ends.num_tokens
    ids = tf.where(place < kept[:, tf.newaxis], token_ids, PAD_ID)
    return Seams(ids, kept, ends, *_around_seam(token_ids, 1, lengths, ends))


def take_back_sources(healer: Healer, inputs: Inputs) -> Seams:
    """Takes back the ends of an encoder's inputs, which end with EOS and begin without BOS.

    An encoder keeps at least a token: it never saw a source without one.
    """
    token_ids, lengths, lost_space, _ = inputs
    place = tf.range(tf.shape(token_ids)[1])
    behind_first = tf.where(place == 0, PAD_ID, token_ids)
    ends = healer.take_back(behind_first, lengths - 1, lost_space)
    kept = lengths - ends.num_tokens
    last = kept[:, tf.newaxis] - 1
    after = tf.where(place == last, EOS_ID, PAD_ID)
    ids = tf.where(place < last, token_ids, after)
    return Seams(ids, kept, ends, *_around_seam(token_ids, 0, lengths - 1, ends))


def _around_seam(
    token_ids: tf.Tensor, first: int, last: tf.Tensor, ends: PromptEnds
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Returns the last token that is kept of each prompt, if any, and those taken back.

    Args:
        token_ids: int32 `(lines, time)`. The inputs.
        first: The place of a prompt's first token.
        last: int32 `(lines,)`. The place after its last token.
        ends: What is taken back.
    """
    place = tf.range(tf.shape(token_ids)[1])
    middle = (last - ends.num_tokens)[:, tf.newaxis]
    is_before = (place == middle - 1) & (place >= first)
    is_taken = (place >= middle) & (place < last[:, tf.newaxis])
    return tf.ragged.boolean_mask(token_ids, is_before), tf.ragged.boolean_mask(token_ids, is_taken)


def spell_again(
    healer: Healer, decoder: Decoder, inputs: SearchInputs, ends: PromptEnds
) -> tuple[SearchInputs, Given]:
    """Returns the start of a search by a `HealedDecoder` after the ends were spelled again.

    Args:
        healer: Took the ends back.
        decoder: Feeds one token to each row.
        inputs: Where decoding begins after the tokens that were kept.
        ends: What was taken back.
    """
    healed = healer.spell_again(decoder, inputs, ends)
    start = inputs._replace(token_ids=healed.start_ids, state=(healed.state, healed.first))
    return start, Given(healed.token_ids, healed.lengths)


def feed_prefixes(
    healer: Healer, decoder: Decoder, inputs: SearchInputs, prefixes: Prefixes
) -> tuple[SearchInputs, Given]:
    """Feeds the texts with which outputs must begin; their last tokens may be spelled again.

    Args:
        healer: Of the vocabulary of the outputs.
        decoder: Feeds one token to each row.
        inputs: Where decoding begins before these texts.
        prefixes: The texts, as tensors.

    Returns:
        As `spell_again`.
    """
    token_ids, lengths, lost_space = prefixes
    ends = healer.take_back(token_ids, lengths, lost_space)
    kept = lengths - ends.num_tokens

    def feed(place: tf.Tensor, fed: tf.Tensor, state: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
        output = decoder.step(fed, state, inputs.memory)
        goes_on = place < kept
        state = tf.nest.map_structure(
            lambda new, old: tf.where(expand_like(goes_on, new), new, old), output.state, state
        )
        return place + 1, tf.where(goes_on, token_ids[:, place], fed), state

    _, fed, state = run_while(
        lambda place, *_: place < tf.reduce_max(kept),
        feed,
        (tf.constant(0), inputs.token_ids, inputs.state),
    )
    start, respelled = spell_again(
        healer, decoder, inputs._replace(token_ids=fed, state=state), ends
    )
    place = tf.range(tf.shape(token_ids)[1] + MAX_TOKENS)
    shifted = tf.clip_by_value(place - kept[:, tf.newaxis], 0, MAX_TOKENS - 1)
    first = tf.pad(token_ids, [[0, 0], [0, MAX_TOKENS]])
    rest = tf.gather(respelled.token_ids, shifted, batch_dims=1)
    given = tf.where(place < kept[:, tf.newaxis], first, rest)
    return start, Given(given, kept + respelled.lengths)


def put_before(given: Given, found: SearchResult) -> SearchResult:
    """Returns hypotheses with the given tokens before theirs."""
    token_ids, lengths = given
    columns = tf.shape(found.token_ids)[2]
    place = tf.range(tf.shape(token_ids)[1] + columns)
    shifted = tf.clip_by_value(place - lengths[:, tf.newaxis], 0, columns - 1)
    by_column = tf.transpose(found.token_ids, (0, 2, 1))
    after = tf.transpose(tf.gather(by_column, shifted, batch_dims=1), (0, 2, 1))
    before = tf.pad(token_ids, [[0, 0], [0, columns]])
    is_before = place < lengths[:, tf.newaxis]
    ids = tf.where(is_before[:, tf.newaxis], before[:, tf.newaxis], after)
    joined = lengths[:, tf.newaxis] + found.lengths
    is_padding = place >= joined[..., tf.newaxis]
    return found._replace(token_ids=tf.where(is_padding, PAD_ID, ids), lengths=joined)
