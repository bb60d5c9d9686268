"""Training tokenizers: sizes, symbols, repeatability, and which texts are learned from."""

import logging
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator

import pytest
from tokenizer_texts import LINES, MODES, SPACELESS, TEXTS, TYPES, train

from seq2seq_kit.errors import ConfigError, DataError
from seq2seq_kit.tokens import train as train_module
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.tokens.train import TokenizerType, cut_texts, sample_texts


def test_a_rare_space_has_a_piece_with_any_coverage() -> None:
    texts = [*SPACELESS * 50, "春 天"]
    for kind in ("unigram", "bpe", "char"):
        tokenizer = Tokenizer.train(
            texts, type=kind, vocab_size=320, character_coverage=0.99, lossless=True
        )
        assert "▁" in "".join(tokenizer.tokenize("春 天"))
        assert "▁" in tokenizer.pieces


@pytest.mark.parametrize("kind", TYPES)
def test_the_piece_for_the_space_changes_no_other(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_required_space = train(type=kind)
    monkeypatch.delitem(train_module._TRAINER_OPTIONS, "required_chars")
    assert train(type=kind).pieces == with_required_space.pieces
    assert train(type=kind).encode(LINES) == with_required_space.encode(LINES)


@pytest.mark.parametrize("kind", TYPES)
def test_training_on_equivalent_texts_gives_the_same_tokenizer(kind: str) -> None:
    decomposed = [f"\ufeff{unicodedata.normalize('NFD', text)}\u200b" for text in TEXTS]
    options = {"type": kind, "vocab_size": 420, "normalization": "nfc"}
    composed = Tokenizer.train(TEXTS, **options)  # type: ignore[arg-type]
    assert Tokenizer.train(decomposed, **options).fingerprint == composed.fingerprint  # type: ignore[arg-type]


def test_a_symbol_is_normalized_as_texts_are() -> None:
    tokenizer = train(user_defined_symbols=["<cafe\u0301>"], normalization="nfc")
    assert "<café>" in tokenizer.tokenize("the <café> cat")
    with pytest.raises(ConfigError, match="no character that the normalization nfc keeps"):
        train(user_defined_symbols=["\u200b"], normalization="nfc")


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_bytes_are_left_out_where_they_do_not_fit(
    kind: TokenizerType, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["a rose is a rose", "so is a nose"]  # 8 characters with the space
    with caplog.at_level(logging.INFO):
        small = Tokenizer.train(texts, type=kind, vocab_size=64)
    assert "byte_fallback is off" in caplog.text
    assert "<0x41>" not in small.pieces
    assert small.decode(small.encode(["a nose"])) == ["a nose"]
    assert "<0x41>" in Tokenizer.train(texts, type=kind, vocab_size=4 + 256 + 8).pieces
    assert "<0x41>" not in Tokenizer.train(texts, type=kind, vocab_size=4 + 256 + 7).pieces
    with pytest.raises(ConfigError, match=r"must be at least 2.* or set `byte_fallback: false`"):
        Tokenizer.train(texts, type=kind, vocab_size=64, byte_fallback=True)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_more_characters_than_pieces_are_an_error_with_the_size_they_need(
    kind: TokenizerType,
) -> None:
    han = [
        "".join(map(chr, range(0x4E00 + first, 0x4E64 + first))) for first in range(0, 3000, 100)
    ]
    with pytest.raises(ConfigError, match=r"must be at least 3005 .* Received: 64. Raise it"):
        Tokenizer.train(han, type=kind, vocab_size=64)
    with pytest.raises(ConfigError, match="must be at least 3005 "):
        Tokenizer.train(han, type=kind, vocab_size=64, byte_fallback=False)


def test_more_characters_than_pieces_are_spelt_in_bytes_if_those_fit() -> None:
    han = ["".join(map(chr, range(0x4E00, 0x5200)))]
    tokenizer = Tokenizer.train(han, type="char", vocab_size=500, lossless=True)
    assert tokenizer.decode(tokenizer.encode(han)) == han


@pytest.mark.parametrize(("kind", "lossless"), MODES)
def test_training_again_gives_the_same_bytes(kind: str, lossless: bool) -> None:
    again = train(type=kind, lossless=lossless).model_proto
    assert train(type=kind, lossless=lossless).model_proto == again


def test_training_in_another_process_gives_the_same_bytes() -> None:
    program = (
        "import sys; from seq2seq_kit.tokens.tokenizer import Tokenizer;"
        f"tokenizer = Tokenizer.train({TEXTS!r}, vocab_size=420);"
        "sys.stdout.write(tokenizer.fingerprint)"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert other.stdout.decode() == train().fingerprint


def test_training_writes_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    train()
    with pytest.raises(ConfigError):
        train(vocab_size=20)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "lossless"), MODES)
@pytest.mark.parametrize("byte_fallback", [True, False])
def test_a_size_too_small_names_the_least_that_works(
    kind: str, lossless: bool, byte_fallback: bool
) -> None:
    options = {"type": kind, "lossless": lossless, "byte_fallback": byte_fallback}
    symbols = [f"<{letter}>" for letter in "abcdefgh"]
    with pytest.raises(ConfigError, match="must be at least") as error:
        train(vocab_size=8, user_defined_symbols=symbols, **options)
    found = re.search(r"at least (\d+) .* Received: 8\.", str(error.value))
    assert found
    least = int(found[1])
    trained = train(vocab_size=least, user_defined_symbols=symbols, **options)
    assert trained.vocab_size == least
    with pytest.raises(ConfigError, match=f"at least {least} "):
        train(vocab_size=least - 1, user_defined_symbols=symbols, **options)


@pytest.mark.parametrize("kind", TYPES)
def test_a_size_too_large_uses_the_feasible_one(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = train(type=kind, vocab_size=9999)
    assert 260 < tokenizer.vocab_size < 9999
    (message,) = [record.getMessage() for record in caplog.records]
    assert "vocab_size=9999 " in message
    assert f" at most {tokenizer.vocab_size} pieces" in message


def test_a_char_vocabulary_has_each_character() -> None:
    tokenizer = train(type="char", vocab_size=9999)
    characters = {character for text in TEXTS for character in text.replace(" ", "▁")}
    assert set(tokenizer.pieces[4 + 256 :]) == characters


@pytest.mark.parametrize(
    "text",
    ["beta\0omega", "beta \u2585 omega", "beta\nomega", "beta " * 9000 + "omega"],
    ids=["NUL", "U+2585", "newline", "45,005 characters"],
)
def test_no_training_text_is_skipped(text: str) -> None:
    tokenizer = Tokenizer.train([text], type="word", vocab_size=262)
    assert set(tokenizer.pieces[4 + 256 :]) == {"▁beta", "▁omega"}


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_long_text_without_spaces_trains(kind: str) -> None:
    text = "春天到了万物复苏" * 10_000
    tokenizer = Tokenizer.train([text], type=kind, vocab_size=280)  # type: ignore[arg-type]
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


@pytest.mark.parametrize("texts", [[], [""], ["", " \n  "], ["\0\u2585"]])
def test_no_text_to_train_on_is_a_data_error(texts: list[str]) -> None:
    with pytest.raises(DataError, match="empty or blank"):
        Tokenizer.train(texts, vocab_size=300)


def test_an_error_among_the_training_texts_comes_through() -> None:
    def texts() -> Iterator[str]:
        yield "first"
        raise DataError("corpus.txt, line 2: damaged")

    with pytest.raises(DataError, match="line 2: damaged"):
        Tokenizer.train(texts(), vocab_size=300)


@pytest.mark.parametrize(("kind", "lossless"), MODES)
def test_a_user_defined_symbol_is_one_token(kind: str, lossless: bool) -> None:
    symbols = ["<de>", "<de>", 'a,"b"']
    tokenizer = train(type=kind, lossless=lossless, user_defined_symbols=symbols)
    space = "▁" if kind == "word" else ""
    for text in ["<de> The cat", "The cat <de>", 'The a,"b" cat']:
        (ids,) = tokenizer.encode([text])
        symbol = "<de>" if "<de>" in text else 'a,"b"'
        assert tokenizer.pieces.index(space + symbol) in ids
        assert tokenizer.decode([ids]) == [text]


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (["<de>", ""], "without spaces"),
        (["new york"], "without spaces, U.2581 and NUL. Received: 'new york'"),
        (["\u2581x"], "without spaces"),
        (["a\0"], "without spaces"),
        (["</s>"], "'</s>' is the name of a special piece"),
        (["<0x0A>"], "'<0x0A>' is the name of a special piece"),
    ],
)
def test_unusable_symbols_are_config_errors(symbols: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(user_defined_symbols=symbols)


def test_a_lossless_word_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be lossless"):
        train(type="word", lossless=True)


def test_a_sample_keeps_order_and_limit_and_repeats() -> None:
    texts = [f"{number:04}" for number in range(1000)]
    sample = sample_texts(texts, max_characters=1000)
    assert 1000 / 4 < 4 * len(sample) <= 1000
    assert sample == sorted(sample)
    assert sample_texts(iter(texts), max_characters=1000) == sample
    # From all over the texts, not from the start: each quarter has its share.
    assert all(sum(text[:2] in quarter for text in sample) > 10 for quarter in quarters())


def quarters() -> list[set[str]]:
    hundreds = [f"{number:02}" for number in range(10)]
    return [set(hundreds[i : i + 3]) for i in range(0, 9, 3)]


def test_a_sample_of_what_fits_is_all_of_it() -> None:
    assert sample_texts(iter(["a", "b", "c"]), max_characters=3) == ["a", "b", "c"]


def test_training_texts_are_cut_and_nothing_else_is_lost() -> None:
    text = "one\n\n two \0three\u2585" + "x" * 25_000
    parts = list(cut_texts([text]))
    assert parts[:3] == ["one", " two ", "three"]
    assert [len(part) for part in parts[3:]] == [10_000, 10_000, 5_000]
