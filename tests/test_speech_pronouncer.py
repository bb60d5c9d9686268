"""Words to phones: the dictionary first, then the model, then letters; weak forms in sentences."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from seq2seq_kit.speech.phonemes import PHONES
from seq2seq_kit.speech.pronouncer import Pronouncer, Pronunciation
from seq2seq_kit.speech.verbalize import Clause


class ScriptedModel:
    """Answers from a table; records what it was asked."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.inputs = SimpleNamespace(
            overlong=lambda texts: [(i, 99) for i, one in enumerate(texts) if len(one) > 40]
        )

    def hypotheses(self, texts: Sequence[str]) -> Iterator[list[Any]]:
        self.asked += texts
        for text in texts:
            answer = self.answers[text]
            yield [SimpleNamespace(text=answer.rstrip("~"), is_cut=answer.endswith("~"))]


def pronounce(text: str, **answers: str) -> list[Pronunciation]:
    clause = Clause(tuple(text.split()), ".")
    (words,) = Pronouncer(ScriptedModel(**answers)).pronounce([clause])  # type: ignore[arg-type]
    return words


def phones(text: str, **answers: str) -> list[str]:
    return [" ".join(word.phones) for word in pronounce(text, **answers)]


def test_known_words_come_from_the_dictionary_and_unknown_ones_from_the_model() -> None:
    words = pronounce("Hello Zorbing", zorbing="Z AO1 R B IH0 NG")
    assert words == [
        Pronunciation("Hello", ("HH", "AH0", "L", "OW1"), "dictionary"),
        Pronunciation("Zorbing", ("Z", "AO1", "R", "B", "IH0", "NG"), "model"),
    ]


def test_the_model_is_asked_once_about_each_word() -> None:
    model = ScriptedModel(blorf="B L AO1 R F", snib="S N IH1 B")
    pronouncer = Pronouncer(model)  # type: ignore[arg-type]
    pronouncer.pronounce([Clause(("blorf", "Blorf", "cat"), "."), Clause(("snib", "blorf"), ".")])
    pronouncer.pronounce([Clause(("snib",), ".")])
    assert model.asked == ["blorf", "snib"]


@pytest.mark.parametrize("answer", ["", "B F", "B QQ1 F", "B L AO1 R F~"])
def test_a_word_that_the_model_cannot_pronounce_is_spelled(answer: str) -> None:
    (word,) = pronounce("blaf", blaf=answer)
    assert word.origin == "letters"
    assert " ".join(word.phones) == "B IY1 EH1 L EY1 EH1 F"


def test_unknown_initials_and_endless_words_are_spelled() -> None:
    assert [word.origin for word in pronounce("XKCD ggz " + 41 * "a" + " " + 99 * "b")] == [
        "letters"
    ] * 4


def test_a_genitive_of_a_known_word_gets_its_ending() -> None:
    assert phones("kangaroo's aardvark's quince's") == [
        "K AE2 NG G ER0 UW1 Z",
        "AA1 R D V AA2 R K S",
        "K W IH1 N S IH0 Z",
    ]


def test_function_words_are_weak_except_at_the_end() -> None:
    assert phones("go to the cat and the apple") == [
        "G OW1",
        "T AH0",
        "DH AH0",
        "K AE1 T",
        "AH0 N D",
        "DH IY0",
        "AE1 P AH0 L",
    ]
    assert phones("come to") == ["K AH1 M", "T UW1"]
    assert phones("from her") == ["F R AH0 M", "HH ER1"]


def test_letters_have_their_names() -> None:
    assert phones("U S ay") == ["Y UW1", "EH1 S", "EY1"]
    assert {phone for word in pronounce("Q W X Z H") for phone in word.phones} <= PHONES
