"""Spellings of texts: Python's against TensorFlow's and against what Unicode says."""

import sys
import unicodedata
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.config import Config
from seq2seq_kit.config.section import Normalization
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.export.module import ExportModule
from seq2seq_kit.inference.search import ModelSearch
from seq2seq_kit.model.build import build_network
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.text.normalization import TextRules, normalize, normalize_tensor
from seq2seq_kit.tokens.tokenizer import Tokenizer

FORMS: tuple[Normalization, ...] = get_args(Normalization)
CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]

DROPPED = [
    *"\u00ad\u034f\u061c\u17b4\u17b5\u200b\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff",
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u206a\u206f\U000e0001",
]
SPACES = list("\u00a0\u2000\u2003\u2007\u2009\u200a\u2028\u2029\u202f\u205f\u3164\uffa0")
# Equal in the sense of Unicode, each with its NFC last.
EQUIVALENT = [
    ("e\u0301", "é"),
    ("A\u030a", "\u212b", "Å"),
    ("\u2126", "Ω"),
    ("\u1112\u1161\u11ab", "\ud558\u11ab", "한"),
    ("o\u0323\u0302", "o\u0302\u0323", "\u1ecd\u0302", "ộ"),
    ("a\u0323\u0306", "a\u0306\u0323", "ặ"),
    ("\u0929", "\u0928\u093c"[:1] + "\u093c", "\u0929"),
    ("\u0958", "\u0915\u093c"),
    ("\uf900", "\u8c48"),
    ("\u304b\u3099", "が"),
    ("q\u0307\u0323", "q\u0323\u0307"),
]
KEPT = [
    "می\u200cخواهم",  # Persian, ZWNJ
    "ශ්\u200dරී",  # Sinhala, ZWJ
    "👩\u200d👩\u200d👧🏽 ❤\ufe0f ☎\ufe0e",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # a flag, in tags
    "葛\U000e0100城",  # Han with a variation selector
    "ᠪᠠᠶ\u180b\u180eᠠ",
    "春天到了，万物复苏。",
    "\u3000ＡＢＣ！？",
    "\tdef main():\x0b\x0c\x00\x85",
    "\u115f\u1161\u1160",
    "\u1680 \u2800",
]


def in_graph(texts: list[str], form: Normalization) -> list[str]:
    return [text.decode("utf-8") for text in normalize_tensor(tf.constant(texts), form).numpy()]


@pytest.mark.parametrize("form", FORMS)
def test_python_and_the_graph_agree_on_every_character(form: Normalization) -> None:
    # Beside letters and marks of several classes, so that order and composition count.
    texts = [f"{c}a{c}\u0301e\u0323{c}\u0308" for c in CHARACTERS]
    texts = ["".join(texts[first : first + 100]) for first in range(0, len(texts), 100)]
    assert first_difference(texts, form) is None


def first_difference(texts: list[str], form: Normalization) -> tuple[str, str, str] | None:
    """Returns a text that comes out differently, and both results: all in one message is slow."""
    for text, other in zip(texts, in_graph(texts, form), strict=True):
        if normalize(text, form) != other:
            return ascii(text), ascii(normalize(text, form)), ascii(other)
    return None


@pytest.mark.parametrize("form", FORMS)
def test_python_and_the_graph_agree_on_random_texts(form: Normalization) -> None:
    odd = [c for c in CHARACTERS if unicodedata.combining(c) or unicodedata.decomposition(c)]
    odd += [*"aeo \r\n\ufdd0\u1100\u1161\u11a8\u115f\u1160가", *DROPPED, *SPACES]
    odd += list("\u0897\U0001e08f\U000105d2\U000105c9\U0001611e\U000113c2\U00016d67\U0001ccd6")
    texts = random_texts(odd, 5000)
    assert first_difference(texts, form) is None
    normalized = [normalize(text, form) for text in texts]
    assert all(normalize(text, form) == text for text in normalized)


@pytest.mark.parametrize("form", ["nfc", "nfd", "nfkc"])
def test_normalizing_again_changes_nothing(form: Normalization) -> None:
    texts = ["x".join(CHARACTERS[first : first + 100]) for first in range(0, len(CHARACTERS), 100)]
    once = [normalize(text, form) for text in texts]
    assert all(normalize(text, form) == text for text in once)


@pytest.mark.parametrize("form", ["nfc", "nfd", "nfkc"])
def test_invisible_characters_go_and_odd_spaces_become_spaces(form: Normalization) -> None:
    for character in DROPPED:
        for text in (f"{character}ab", f"a{character}b", f"ab{character}", f"a{2 * character}b"):
            assert normalize(text, form) == "ab"
    for character in SPACES:
        assert normalize(f"a{character}b", form) == "a b"
    assert normalize("ab\r", form) == normalize("a\u200bb\r\r", form) == "ab"
    assert normalize("ab\r\nc", form) == "ab\nc"
    assert normalize("a\rb", form) == "a\rb"


def test_ignorable_characters_are_removed_except_for_the_documented_ones() -> None:
    # Format characters (Cf) as Python knows them: what else stays is seen, or joins.
    stays = {c for c in CHARACTERS if unicodedata.category(c) == "Cf" and normalize(c, "nfc") == c}
    joiners = set("\u200c\u200d\u180e")
    shorthand_and_music = {*map(chr, range(0x1BCA0, 0x1BCA4)), *map(chr, range(0x1D173, 0x1D17B))}
    tags = {chr(code) for code in range(0xE0020, 0xE0080)}
    visible = {*map(chr, [*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2])}
    visible |= {
        "\U000110bd",
        "\U000110cd",
        *map(chr, range(0x13430, 0x13440)),
        *"\ufff9\ufffa\ufffb",
    }
    assert stays <= joiners | shorthand_and_music | tags | visible


@pytest.mark.parametrize("text", KEPT)
def test_what_can_be_seen_stays(text: str) -> None:
    assert normalize(text, "nfc") == text == normalize(text, "none")
    assert in_graph([text], "nfc") == [text]


def test_nfc_changes_no_character_but_to_an_equivalent_one() -> None:
    gone = {*DROPPED, *SPACES, "\ufdd0", "\r", *map(chr, range(0x2000, 0x2070))}
    kept = "x".join(character for character in CHARACTERS if character not in gone)
    assert (normalize(kept, "nfc") == unicodedata.normalize("NFC", kept)) is True


@pytest.mark.parametrize("form", ["nfc", "nfd", "nfkc"])
@pytest.mark.parametrize("spellings", EQUIVALENT, ids=lambda spellings: spellings[-1])
def test_equivalent_spellings_become_one(spellings: tuple[str, ...], form: Normalization) -> None:
    assert len({normalize(f"x{spelling}y", form) for spelling in spellings}) == 1
    if form == "nfc":
        assert normalize(spellings[0], form) == spellings[-1]


def test_nfd_splits_and_nfkc_replaces() -> None:
    assert normalize("한 é", "nfd") == "\u1112\u1161\u11ab e\u0301"
    assert normalize("ﬁ，Ａ", "nfkc") == "fi,A"


@pytest.mark.parametrize("form", FORMS)
def test_escapes_are_undone_in_python_and_in_the_graph(form: Normalization) -> None:
    texts = random_texts(list("\u2581\x10\x11\x12 ae\u0301\n"), 5000)
    rules = TextRules(form, escapes=True)
    prepared = [rules.prepare(text) for text in texts]
    assert not any("\u2581" in text for text in prepared)
    composed = "nfc" if form == "nfd" else form
    assert [rules.restore(text) for text in prepared] == [normalize(t, composed) for t in texts]
    assert as_texts(rules.prepare_tensor(tf.constant(texts))) == prepared
    # Also of what no text is prepared to, as a model may write it.
    assert as_texts(rules.restore_tensor(tf.constant(texts))) == list(map(rules.restore, texts))


def random_texts(characters: list[str], number: int) -> list[str]:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 12, number)
    drawn = iter(rng.integers(len(characters), size=lengths.sum()))
    return ["".join(characters[next(drawn)] for _ in range(length)) for length in lengths]


def as_texts(strings: tf.Tensor) -> list[str]:
    return [text.decode("utf-8") for text in strings.numpy()]


def test_bytes_that_are_no_text_pass_the_graph() -> None:
    strings = tf.constant([b"\xff", b"a\xc3", b"\xed\xa0\x80\xcc\x81", b""])
    assert normalize_tensor(strings, "nfc").shape == (4,)


TEXTS = [
    "Das schöne Café in Zürich", "한국어는 한글로 쓴다", "Tiếng Việt có nhiều dấu",
    "हिन्दी की क़लम", "می\u200cخواهم", "春天到了，万物复苏。", "Ångström Ω",
] * 3  # fmt: skip


@pytest.fixture(scope="module", params=["translation", "continuation"])
def answering(request: pytest.FixtureRequest) -> Seq2Seq:
    """A network with random weights, whose outputs depend on every token."""
    config = Config.model_validate(
        {
            "task": request.param,
            "data": {"train": {"lines": "x"} if request.param == "continuation" else "x"},
            "model": {"embedding_dim": 8, "units": 16, "init_scale": 1.0},
            "decoding": {"max_length": 8, "beam_size": 2},
        }
    )
    tokenizer = Tokenizer.train(
        TEXTS, type="char", vocab_size=400, normalization=config.tokenizer.normalization,
        lossless=request.param == "continuation",
    )  # fmt: skip
    tf.keras.utils.set_random_seed(1)
    tokenizers = Tokenizers(tokenizer, tokenizer)
    return Seq2Seq(build_network(config, tokenizers), tokenizers, config)


def spellings(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFD", text)
    middle = len(text) // 2
    forms = [text, decomposed, text.replace(" ", "\u00a0"), text.replace(" ", "\u202f")]
    forms += [text + "\r", unicodedata.normalize("NFC", decomposed)]
    for character in DROPPED:
        forms += [character + text, text[:middle] + character + text[middle:], text + character]
    return forms


@pytest.mark.parametrize("text", TEXTS[:7])
def test_every_spelling_has_the_same_output_and_score(answering: Seq2Seq, text: str) -> None:
    forms = spellings(text)
    (first, *others) = [best for best, *_ in answering.hypotheses(forms)]
    assert all(other == first for other in others)
    other_text = next(answering.hypotheses([text[1:]]))[0]
    assert other_text != first
    scores = answering.score(["Café"] * len(forms), forms)
    scores += answering.score(forms, ["x"] * len(forms))
    assert len(set(scores)) == 2


def test_the_graph_of_an_export_gives_equal_outputs_for_every_spelling(answering: Seq2Seq) -> None:
    module = ExportModule(
        ModelSearch(
            answering.model,
            answering.tokenizer,
            continues=answering.config.task == "continuation",
        ),
        answering.inputs,
        decoding=answering.config.decoding,
        metadata={},
    )
    for text in TEXTS[:7]:
        forms = spellings(text)
        found = module.serve(tf.constant(forms))
        (expected,) = answering.generate([text])
        assert as_texts(found["outputs"]) == [expected] * len(forms)
        assert len(set(found["scores"].numpy().tolist())) == 1


def test_references_are_compared_in_one_spelling(answering: Seq2Seq) -> None:
    outputs: list[Any] = answering.generate(TEXTS[:3])
    references = [[unicodedata.normalize("NFD", f"\ufeff{output}\u200b")] for output in outputs]
    assert answering.evaluate(TEXTS[:3], references).exact_match == 100.0
    assert answering.evaluate(TEXTS[:3], [["x"]] * 3).exact_match == 0.0
