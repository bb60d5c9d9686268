"""Text that appears while an output grows, against decoding the whole output at once."""

import numpy as np
import pytest

from seq2seq_kit.inference.certain_text import CertainText, Unfinished
from seq2seq_kit.tokens.tokenizer import Tokenizer

TEXTS = [
    "He eats an apple. ",
    "  two  spaces \n",
    "春天到了，万物复苏。",
    "cafe\u0301 각 \x10 \u2581 😀é",
] * 3


def make_tokenizer(kind: str, normalization: str) -> Tokenizer:
    return Tokenizer.train(
        TEXTS,
        type=kind,  # type: ignore[arg-type]
        vocab_size=340,
        byte_fallback=True,
        lossless=kind != "word",
        normalization=normalization,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", ["bpe", "char", "word"])
@pytest.mark.parametrize("normalization", ["nfc", "nfd", "none"])
def test_pieces_are_never_retracted_and_make_up_the_text(kind: str, normalization: str) -> None:
    tokenizer = make_tokenizer(kind, normalization)
    rng = np.random.default_rng(0)
    rows = tokenizer.encode(TEXTS)
    # Random tokens as well: bytes that spell nothing, and marks that stand alone.
    rows += [rng.integers(4, tokenizer.vocab_size, 40).tolist() for _ in range(20)]
    early = 0
    for row in rows:
        for size in (1, 3):
            growing = CertainText(tokenizer)
            pieces = [growing.add(row[n : n + size]) for n in range(0, len(row), size)]
            early += sum(map(len, pieces))
            assert "".join([*pieces, growing.close()]) == tokenizer.decode([row])[0]
    assert early > 0.8 * 2 * sum(map(len, tokenizer.decode(rows)))


@pytest.mark.parametrize("character", ["春", "\u4000"])  # The latter ends with the lowest byte.
def test_a_character_in_bytes_appears_with_its_last_byte(character: str) -> None:
    tokenizer = Tokenizer.train(["abc"] * 9, type="char", vocab_size=270, byte_fallback=True)
    (row,) = tokenizer.encode([f"a{character}b"])
    growing = CertainText(tokenizer)
    assert [growing.add([token]) for token in row] == ["", "a", "", "", character, "b"]


def test_continuing_from_a_state_gives_the_same_text_in_flat_memory() -> None:
    tokenizer = make_tokenizer("bpe", "nfc")
    rng = np.random.default_rng(1)
    row = rng.permutation(np.concatenate(tokenizer.encode(TEXTS * 80))).tolist()
    text, state = "", Unfinished((), 0)
    for first in range(0, len(row), 7):
        growing = CertainText(tokenizer, *state)
        text += growing.add(row[first : first + 7])
        state = growing.state
        assert len(state.token_ids) < 300
    text += CertainText(tokenizer, *state).close()
    assert text == tokenizer.decode([row])[0]
