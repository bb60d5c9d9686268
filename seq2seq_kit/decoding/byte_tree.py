"""A vocabulary as a tree of the bytes that its tokens add to a text.

The tree finds the tokens with which given bytes can be spelled, inside a graph. Tokens are ranked
in the order of their bytes, so that those with a common beginning have neighbouring ranks.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

SPACE = "\u2581".encode()
"""The bytes with which a tokenizer spells a space."""

MAX_TOKENS = 24
"""Tokens of a text's end that are looked at, at most."""

MAX_BYTES = 64
"""Bytes of a text's end at most; a token's bytes beyond this number are ignored."""


class ByteTree:
    """Spells texts with the tokens of a vocabulary.

    Args:
        surfaces: What each id adds to a text, in UTF-8, with U+2581 for a space.

    Attributes:
        vocab_size: Number of ids.
        longest: Bytes of the longest token.
        joins_spaces: Whether a token begins with a space and has more bytes.
    """

    def __init__(self, surfaces: Sequence[bytes]) -> None:
        surfaces = [surface[:MAX_BYTES] for surface in surfaces]
        self.vocab_size = len(surfaces)
        self.longest = max(1, *map(len, surfaces))
        owner: dict[bytes, int] = {}
        for token_id, surface in enumerate(surfaces):
            # A character that has a piece is never spelled as a byte: of two tokens that add the
            # same, the tokenizer takes the piece, whose id is higher.
            if surface:
                owner[surface] = token_id
        order = sorted(owner)
        rank = np.full(len(surfaces), -1, np.int32)
        rank[[owner[surface] for surface in order]] = np.arange(len(order))
        # The tree of all beginnings of tokens. Those below a node have neighbouring ranks.
        nodes: dict[bytes, int] = {b"": 0}
        first, last = [0], [len(order)]
        for place, surface in enumerate(order):
            for length in range(1, len(surface) + 1):
                node = nodes.setdefault(surface[:length], len(nodes))
                if node == len(first):
                    first.append(place)
                    last.append(place)
                last[node] = place + 1
        pieces = np.array([owner.get(beginning, -1) for beginning in nodes], np.int32)
        beyond = np.stack([np.array(first) + (pieces >= 0), np.array(last)], axis=1)
        branches = {nodes[b[:-1]] * 256 + b[-1]: node for b, node in nodes.items() if b}
        keys = np.array(sorted(branches), np.int64)
        # The node after the last has no continuation.
        children = [*(branches[key] for key in keys.tolist()), len(nodes)]
        beyond = np.append(beyond, [[0, 0]], axis=0).astype(np.int32)
        spelled = np.zeros((len(surfaces), self.longest), np.int32)
        for token_id, surface in enumerate(surfaces):
            spelled[token_id, : len(surface)] = list(surface)
        self.joins_spaces = bool(np.diff(beyond[nodes.get(SPACE, len(nodes))])[0] > 0)
        self._keys = _table(np.append(keys, np.iinfo(np.int64).max))
        self._children = _table(np.array(children, np.int32))
        self._pieces = _table(np.append(pieces, np.int32(-1)))
        self._beyond = _table(beyond)
        self._rank = _table(rank)
        self._sizes = _table(np.array(list(map(len, surfaces)), np.int32))
        self._bytes = _table(spelled)

    def sizes(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns how many bytes tokens add to a text, int32, in the shape of `token_ids`."""
        return tf.gather(self._sizes, token_ids)

    def spell(self, tail: tf.Tensor, ends: tf.Tensor, gap: tf.Tensor) -> tf.Tensor:
        """Returns the bytes of texts, as `PromptEnds.spelling`.

        Args:
            tail: int32 `(lines, MAX_TOKENS)`. The last tokens of each text, the very last one
                first.
            ends: int32 `(lines, MAX_TOKENS)`. Bytes from where each begins to the text's end.
            gap: int32 `(lines,)`. Bytes of a space after the last token.
        """
        left = tf.range(MAX_BYTES + 1)
        # (lines, bytes): the token that a byte belongs to.
        token = tf.reduce_sum(
            tf.cast(ends[:, tf.newaxis, :] < left[:, tf.newaxis], tf.int32), axis=-1
        )
        inside = token < MAX_TOKENS
        token = tf.minimum(token, MAX_TOKENS - 1)
        offset = tf.gather(ends, token, batch_dims=1) - left
        inside &= offset < self.longest
        spelled = tf.gather_nd(
            self._bytes,
            tf.stack(
                [
                    tf.gather(tail, token, batch_dims=1),
                    tf.clip_by_value(offset, 0, self.longest - 1),
                ],
                axis=-1,
            ),
        )
        in_gap = left <= gap[:, tf.newaxis]
        space = tf.gather(list(SPACE), tf.clip_by_value(len(SPACE) - left, 0, len(SPACE) - 1))
        spelled = tf.where(in_gap, space, tf.where(inside, spelled, -1))
        return tf.where(left > 0, spelled, -1)

    def walk(self, spelling: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Follows the bytes of texts from where 0, 1, ... bytes are left through all tokens.

        Args:
            spelling: As in `PromptEnds`.

        Returns:
            int32 `(lines, MAX_BYTES + 1, 2)`, between which ranks the tokens are that begin with
            all bytes left and extend beyond them; and int32 `(lines, MAX_BYTES + 1, longest)`, the
            token of 1, 2, ... bytes that begins there, or -1.
        """
        left = tf.range(MAX_BYTES + 1)
        nothing = self._pieces.shape[0] - 1
        node = whole = tf.zeros_like(spelling)
        tokens = []
        for length in range(1, self.longest + 1):
            byte = tf.gather(spelling, tf.maximum(left - length + 1, 0), axis=1)
            key = tf.cast(node, tf.int64) * 256 + tf.cast(byte, tf.int64)
            place = tf.reshape(
                tf.searchsorted(self._keys, tf.reshape(key, [-1]), out_type=tf.int32),
                tf.shape(key),
            )
            found = (tf.gather(self._keys, place) == key) & (byte >= 0) & (node < nothing)
            node = tf.where(found, tf.gather(self._children, place), nothing)
            whole = tf.where(left == length, node, whole)
            tokens.append(tf.gather(self._pieces, node))
        whole = tf.where(left <= self.longest, whole, nothing)
        return tf.gather(self._beyond, whole), tf.stack(tokens, axis=-1)

    def between(self, ranks: tf.Tensor) -> tf.Tensor:
        """Returns which tokens have ranks from the first up to the second, bool."""
        first, last = ranks[..., :1], ranks[..., 1:]
        return (self._rank >= tf.maximum(first, 0)) & (self._rank < last)


def _table(values: np.ndarray) -> tf.Tensor:
    """Returns a table as a tensor that graphs share: of an array each use would be a copy."""
    with tf.init_scope():
        return tf.constant(values)
