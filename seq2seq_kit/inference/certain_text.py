"""The text of an output that still grows, as far as no further token can change it."""

import codecs
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from seq2seq_kit.tokens.tokenizer import Tokenizer

# Tokens that are decoded again with each new one; when there are more, those whose text is certain
# are forgotten, so that memory does not grow with the output.
_MOST_TOKENS = 256


class Unfinished(NamedTuple):
    """The state of a `CertainText`."""

    token_ids: tuple[int, ...]
    """The tokens that later ones are decoded with."""
    num_shown: int
    """Characters of their text that were returned."""


class CertainText:
    """Turns a growing output into text that is never retracted.

    A character spelled in bytes is held back until its last byte, one that may combine with the
    next until that has come, and an escape until it is complete. Without `lossless`, spaces at the
    end wait too.

    Args:
        tokenizer: The tokenizer of the outputs.
        before: Tokens before the output, with which its first ones are decoded.
        num_shown: Characters of their text that do not belong to the output.
    """

    def __init__(
        self, tokenizer: Tokenizer, before: Sequence[int] = (), num_shown: int = 0
    ) -> None:
        self._tokenizer = tokenizer
        self._ids = list(before)
        self._num_shown = num_shown

    @property
    def state(self) -> Unfinished:
        """The state from which another `CertainText` can continue."""
        return Unfinished(tuple(self._ids), self._num_shown)

    def add(self, token_ids: Sequence[int]) -> str:
        """Returns the text that is certain after more tokens, without what was returned before."""
        self._ids += token_ids
        kept = self._ids[: len(self._ids) - _num_pending_bytes(self._tokenizer.surfaces, self._ids)]
        text = self._tokenizer.decode([kept])[0]
        certain = self._without_uncertain_end(text)
        new = certain[self._num_shown :]
        self._num_shown = max(self._num_shown, len(certain))
        if len(kept) > _MOST_TOKENS and len(certain) == len(text) and len(kept) == len(self._ids):
            self._ids = self._ids[-1:]
            self._num_shown = len(self._tokenizer.decode([self._ids])[0])
        return new

    def close(self, token_ids: Sequence[int] = ()) -> str:
        """Returns the rest of the text after the last tokens."""
        self._ids += token_ids
        return self._tokenizer.decode([self._ids])[0][self._num_shown :]

    def _without_uncertain_end(self, text: str) -> str:
        rules = self._tokenizer.text_rules
        if not self._tokenizer.lossless:
            text = text.rstrip(" ")
        if rules.escapes and text.endswith("\x10"):
            text = text[:-1]
        if rules.normalization == "nfd" and text:
            end = len(text) - 1
            while end and unicodedata.combining(text[end]):
                end -= 1
            text = text[:end]
        return text


def _num_pending_bytes(surfaces: Sequence[bytes], token_ids: Sequence[int]) -> int:
    """Returns how many last tokens are bytes that begin a character without completing it."""
    run = b""
    for token_id in reversed(token_ids):
        surface = surfaces[token_id]
        if len(surface) != 1 or surface[0] < 0x80:
            break
        run = surface + run
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(run)
    return len(decoder.getstate()[0])
