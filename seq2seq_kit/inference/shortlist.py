"""The tokens that a search may output when it is limited to a lexical shortlist; in a graph."""

from typing import NamedTuple

import tensorflow as tf

from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.decoding.numerics import BLOCK
from seq2seq_kit.special_ids import EOS_ID, NUM_SPECIAL_IDS, PAD_ID

FREQUENT, TRANSLATIONS = "shortlist_frequent", "shortlist_translations"
"""The names of the constants in a graph that are the arrays of a shortlist."""


class Candidates(NamedTuple):
    """The tokens that some lines can be translated to."""

    token_ids: tf.Tensor
    """int32 `(tokens,)`. Each token once, the special ones first, at the places of their ids.
    Padding fills the end, so that the number is a multiple of `BLOCK`."""
    allowed: tf.Tensor
    """bool `(lines, tokens)`. Whether a line can be translated to a token. Of the special tokens,
    only EOS is allowed."""


def find_candidates(shortlist: Shortlist, source_ids: tf.Tensor) -> Candidates:
    """Returns the tokens that lines can be translated to.

    Args:
        shortlist: The shortlist of the model.
        source_ids: int32 `(lines, time)`, right-padded.
    """
    frequent = tf.constant(shortlist.frequent, name=FREQUENT)
    on_every_list = tf.concat([tf.range(NUM_SPECIAL_IDS), frequent], axis=0)
    of_each_token = tf.constant(shortlist.translations, name=TRANSLATIONS)
    translations = tf.gather(of_each_token, source_ids)
    tokens = tf.concat([on_every_list, tf.reshape(translations, [-1])], axis=0)
    token_ids, places = tf.unique(tokens)
    padding = [[0, -tf.size(token_ids) % BLOCK]]
    token_ids = tf.pad(token_ids, padding, constant_values=PAD_ID)
    num_lines, num_shared = tf.shape(source_ids)[0], tf.size(on_every_list)
    # (lines, time * translations)
    places = tf.reshape(places[num_shared:], (num_lines, -1))
    lines = tf.broadcast_to(tf.range(num_lines)[:, tf.newaxis], tf.shape(places))
    is_shared = tf.range(tf.size(token_ids)) < num_shared
    allowed = tf.tensor_scatter_nd_update(
        tf.tile(is_shared[tf.newaxis], (num_lines, 1)),
        tf.stack([lines, places], axis=-1),
        tf.ones_like(places, tf.bool),
    )
    return Candidates(token_ids, allowed & (token_ids >= EOS_ID))
