"""What is read out: abbreviations, addresses, symbols, emoji, pauses; what cannot be read."""

import pytest

from seq2seq_kit.errors import InputError
from seq2seq_kit.speech import verbalize as module
from seq2seq_kit.speech.dictionary import load_dictionary
from seq2seq_kit.speech.verbalize import verbalize

pytest.importorskip("num2words")


def read(text: str) -> str:
    return " ".join(f"{' '.join(words)}{pause}" for words, pause in verbalize(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Dr. Lee lives on Elm St. in St. Paul.", "Doctor Lee lives on Elm Street in Saint Paul."),
        ("on Elm Dr. today", "on Elm Drive today."),
        ("on Main St. It is long", "on Main Street. It is long."),
        ("Mr. and Mrs. Fox vs. Cox", "Mister and Missus Fox versus Cox."),
        ("cf. her Ph.D. and/or x²", "compare her PhD and or x squared."),
        ("Cats, dogs, etc. are", "Cats, dogs, et cetera are."),
        ("e.g. this, i.e. that", "for example this, that is that."),
        ("the U.S. army", "the U S army."),
        ("in the U.S.A. We", "in the U S ay. We."),
        ("AI in the US", "ay I in the U S."),
        ("GIVE IT TO US", "GIVE IT TO US."),
        ("J. K. Rowling", "J K Rowling."),
        ("$5 & 3%", "five dollars and three percent."),
        (
            "go to https://www.a-b.org/c?d=1.",
            "go to w w w dot a dash b dot org slash c question mark d equals one.",
        ),
        ("me@home.org", "me at home dot org."),
    ],
)
def test_abbreviations_and_symbols(text: str, words: str) -> None:
    assert read(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one, two; three: four! five?", "one, two; three: four! five?"),
        ("one two", "one two."),
        ("wait... what?!", "wait; what?"),
        ("this - that — those", "this; that; those."),
        ("one\ntwo\n\nthree", "one. two. three."),
        ("a (b) [c]", "a, b, c."),
        ('"Go," he said.', "Go, he said."),
        ("don't 'quote' 'em", "don't quote 'em."),
        ("well-known", "well known."),
        ("***** ====", "asterisk equals."),
    ],
)
def test_punctuation_gives_pauses(text: str, words: str) -> None:
    assert read(text) == words


@pytest.mark.parametrize("text", ["", " \t", "\n\n", "...", "?!", '"', "()", "\u200b"])
def test_a_text_without_words_has_no_clause(text: str) -> None:
    assert verbalize(text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("café naïve Łódź Ærø", "cafe naive Lodz Aero."),
        ("ﬁne ½ cup 2½", "fine one half cup two and one half."),
        ("😀😀 👍🏽 🇩🇪", "grinning face thumbs up sign d e."),
        ("β particles", "beta particles."),
        ("don\u2019t", "don't."),
    ],
)
def test_letters_with_marks_and_emoji(text: str, words: str) -> None:
    assert read(text) == words


@pytest.mark.parametrize(
    ("text", "named"),
    [("hi 春天", "'春' (CJK"), ("Привет", "'П' (CYRILLIC"), ("\ue000", "'\\ue000'. Leave")],
)
def test_letters_that_are_not_latin_are_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(InputError) as error:
        verbalize(text)
    assert named in str(error.value)


def test_the_words_of_the_tables_are_in_the_dictionary() -> None:
    tables = (module._TITLES, module._ABBREVIATIONS, module._PHRASES, module._SYMBOLS)
    words = {word for table in tables for text in table.values() for word in text.lower().split()}
    assert words - load_dictionary().keys() == {"caret"}  # left to the model
