"""Numbers as words: each kind is read as Americans read it, checked on worked examples."""

import time

import pytest

from seq2seq_kit.speech import numbers
from seq2seq_kit.speech.numbers import NUMBER_RULES

pytest.importorskip("num2words")


def say(text: str) -> str:
    for pattern, words in NUMBER_RULES:
        text = pattern.sub(words, text)
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "zero"),
        ("7 apples", "seven apples"),
        ("1,234,567", "one million two hundred thirty-four thousand five hundred sixty-seven"),
        ("3.14", "three point one four"),
        (".5", "point five"),
        ("007", "zero zero seven"),
        ("-5", "minus five"),
        ("1st 2nd 3rd 21st", "first second third twenty-first"),
        ("1/2 2/3 3/4", "one half two thirds three quarters"),
        ("24/7", "twenty-four slash seven"),
        ("10-20", "ten to twenty"),
        ("3:2", "three to two"),
        ("5-10%", "five to ten percent"),
        ("10-20 km", "ten to twenty kilometers"),
        ("1.2.3 v2.0.1", "one point two point three v two point zero point one"),
        ("Nos. 6 and 7, p. 8", "numbers six and seven , page eight"),
        ("Henry VIII, Louis XIV's", "Henry the eighth, Louis the fourteenth's"),
        ("World War II, Chapter IX", "World War two, Chapter nine"),
        ("an IV, Henry I, Part X", "an IV, Henry I, Part X"),
        ("#5 No. 6", "number five number six"),
        ("mp3", "mp three"),
    ],
)
def test_quantities(text: str, words: str) -> None:
    assert say(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1984", "nineteen eighty-four"),
        ("2005", "two thousand five"),
        ("2024", "twenty twenty-four"),
        ("1,984", "one thousand nine hundred eighty-four"),
        ("1066", "one thousand sixty-six"),
        ("1990s '80s", "nineteen nineties eighties"),
        ("1914-1918", "nineteen fourteen to nineteen eighteen"),
        ("2024-05-12", "May twelfth, twenty twenty-four"),
        (
            "5/12/2024 13/5/2024",
            "May twelfth, twenty twenty-four May thirteenth, twenty twenty-four",
        ),
        ("May 5, 2024", "May fifth, twenty twenty-four"),
        ("5 May", "May fifth"),
        ("Dec. 25th", "December twenty-fifth"),
        ("99/99/2024", "ninety-nine / ninety-nine / twenty twenty-four"),  # no date
    ],
)
def test_years_and_dates(text: str, words: str) -> None:
    assert say(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10:30", "ten thirty"),
        ("10:05 pm", "ten oh five p m"),
        ("7 a.m. now", "seven ay m now"),
        ("9 p.m. He left", "nine p m. He left"),
        ("12:00", "twelve o'clock"),
        ("0:10:01", "zero ten and one second"),
        ("$5", "five dollars"),
        ("$1.01", "one dollar and one cent"),
        ("$0.99", "ninety-nine cents"),
        ("$5.00", "five dollars"),
        ("$3.5 million", "three point five million dollars"),
        ("20 €", "twenty euros"),
        ("$5-10, $5-$10", "five to ten dollars , five to ten dollars"),
        ("2:30-3:30 pm", "two thirty to three thirty p m"),
        ("2pm-3pm", "two p m to three p m"),
        ("50% 50¢", "fifty percent fifty cents"),
        ("20°C 1 °F", "twenty degrees Celsius one degree Fahrenheit"),
        ("1 km, 2 km", "one kilometer , two kilometers"),
        ("3 m2", "three square meters"),
        ("5 min., 3 ft. It", "five minutes , three feet. It"),
        ("3 in. of rain in 3 in", "three inches of rain in three in"),
        ("6'2\" tall", "six feet two tall"),
        ("555-1234", "five five five, one two three four"),
    ],
)
def test_times_amounts_and_measures(text: str, words: str) -> None:
    assert say(text) == words


@pytest.mark.parametrize(
    "digits", ["1" * 300_000, "1." * 100_000, "1,000" * 60_000, "1/" * 100_000]
)
def test_endless_digits_are_read_in_linear_time(digits: str) -> None:
    start = time.monotonic()
    assert not any(character.isdigit() for character in say(digits))
    assert time.monotonic() - start < 20


def test_a_number_too_long_for_names_is_read_digit_by_digit() -> None:
    assert say("9" * 31) == " ".join(["nine"] * 31)


def test_missing_num2words_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "num2words", None)
    numbers._write_out.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'seq2seq_kit\[speech\]'"):
        say("5")
