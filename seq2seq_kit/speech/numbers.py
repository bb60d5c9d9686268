"""Numbers, dates, times and amounts of English texts as words, the American way.

`NUMBER_RULES` are applied in their order by `verbalize`. num2words writes the numbers out; what is
here decides how a number is read: as a quantity, a year, an ordinal, or digit by digit.
"""

import functools
import re
from collections.abc import Callable
from typing import Literal

from seq2seq_kit.errors import InputError

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
"""A pattern, and what each of its matches is replaced by."""

SENTENCE_END = re.compile(r"\s+[A-Z]|\s*$")
"""What follows a period that ends a sentence as well as an abbreviation."""

# num2words names numbers up to 10**306; beyond thirty digits nobody can follow the names.
_MAX_DIGITS = 30

# Begins at no digit within a number: otherwise a search in a million digits would take hours.
_NUMBER = r"(?<!\d)(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d++(?:\.\d+)?|\.\d+)"
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_MONTH = "|".join(f"{name}|{name[:3]}" for name in [*_MONTHS, "Sept"])
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
_MAGNITUDES = {
    "k": "thousand",
    "K": "thousand",
    "m": "million",
    "M": "million",
    "bn": "billion",
    "B": "billion",
}
_UNITS = {
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "m/s": ("meter per second", "meters per second"),
    "mph": ("mile per hour", "miles per hour"),
    "km2": ("square kilometer", "square kilometers"),
    "m2": ("square meter", "square meters"),
    "m3": ("cubic meter", "cubic meters"),
    "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "m": ("meter", "meters"),
    "in": ("inch", "inches"),
    "mi": ("mile", "miles"),
    "ft": ("foot", "feet"),
    "kg": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "g": ("gram", "grams"),
    "lbs": ("pound", "pounds"),
    "lb": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "ml": ("milliliter", "milliliters"),
    "l": ("liter", "liters"),
    "L": ("liter", "liters"),
    "kB": ("kilobyte", "kilobytes"),
    "KB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "Hz": ("hertz", "hertz"),
    "kW": ("kilowatt", "kilowatts"),
    "W": ("watt", "watts"),
    "V": ("volt", "volts"),
    "ms": ("millisecond", "milliseconds"),
    "s": ("second", "seconds"),
    "sec": ("second", "seconds"),
    "min": ("minute", "minutes"),
    "hrs": ("hour", "hours"),
    "hr": ("hour", "hours"),
    "h": ("hour", "hours"),
}
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10}
_RULERS = (
    "Alexander|Benedict|Catherine|Charles|Clement|Edward|Elizabeth|Ferdinand|Francis|Frederick"
    "|George|Gregory|Henry|Innocent|Ivan|James|John|Juan Carlos|Leo|Leopold|Louis|Mary|Napoleon"
    "|Nicholas|Paul|Peter|Philip|Pius|Richard|Urban|Wilhelm|William"
)
_PARTS = (
    "Act|Appendix|Article|Book|Bowl|Chapter|Class|Figure|Grade|Level|Part|Phase|Scene|Section"
    "|Stage|Table|Title|Type|Volume|War"
)
_FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}


def spell_digits(digits: str) -> str:
    """Returns digits one by one.

    Example:

    >>> spell_digits("007")
    'zero zero seven'
    """
    return " ".join(_write_out(int(digit)) for digit in digits)


def say_number(text: str) -> str:
    """Returns a number as a quantity; one with a leading zero, or too long, digit by digit.

    Args:
        text: Digits, which may have commas between thousands, and decimals.

    Example:

    >>> say_number("1,234.50")
    'one thousand two hundred thirty-four point five zero'
    """
    whole, _, decimals = text.replace(",", "").partition(".")
    if (whole.startswith("0") and len(whole) > 1) or len(whole) > _MAX_DIGITS:
        words = spell_digits(whole)
    else:
        words = _write_out(int(whole)) if whole else ""
    return f"{words} point {spell_digits(decimals)}".strip() if decimals else words


def say_year(year: int) -> str:
    """Returns a year, from 1100 to 2099.

    Example:

    >>> say_year(1984)
    'nineteen eighty-four'
    """
    return _write_out(year, "year")


@functools.cache
def _write_out(number: int, to: Literal["cardinal", "ordinal", "year"] = "cardinal") -> str:
    try:
        from num2words import num2words
    except ImportError as error:
        raise InputError(
            "num2words, which writes numbers out, is not installed. Install it with "
            "`pip install 'seq2seq_kit[speech]'`."
        ) from error
    # "one thousand, two hundred and three": the comma would be a pause, the "and" is British.
    return re.sub(r",| and\b", "", num2words(number, to=to))


def _counted(number: str, singular: str, plural: str) -> str:
    return f"{say_number(number)} {singular if number == '1' else plural}"


def _date(month: int, day: int, year: str | None) -> str:
    words = f"{_MONTHS[month - 1]} {_write_out(day, 'ordinal')}"
    return f"{words}, {_any_year(year)}" if year else words


def _any_year(year: str) -> str:
    """Returns the year of a date, of which only the last two digits may be given."""
    if len(year) == 2:
        return spell_digits(year) if year.startswith("0") else say_number(year)
    return say_year(int(year)) if 1100 <= int(year) < 2100 else say_number(year)


def _iso_date(match: re.Match[str]) -> str:
    year, month, day = match.groups()
    return _date(int(month), int(day), year)


def _slashed_date(match: re.Match[str]) -> str:
    month, day = int(match[1]), int(match[2])
    if month > 12 >= day:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    return _date(month, day, match[3])


def _month_number(name: str) -> int:
    return next(n for n, month in enumerate(_MONTHS, 1) if month.startswith(name[:3]))


def _month_first(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    return _date(_month_number(match[1]), int(match[2]), match[3])


def _day_first(match: re.Match[str]) -> str:
    if not 1 <= int(match[1]) <= 31:
        return match[0]
    return _date(_month_number(match[2]), int(match[1]), match[3])


def _time(match: re.Match[str]) -> str:
    hours, minutes, seconds = match.group(1, 2, 3)
    words = [_write_out(int(hours))]
    if minutes != "00":
        words += ["oh"] * (minutes[0] == "0") + [_write_out(int(minutes))]
    elif not match["half"]:
        words.append("o'clock" if 1 <= int(hours) <= 12 else "hundred")
    if seconds:
        words.append(f"and {_counted(str(int(seconds)), 'second', 'seconds')}")
    return " ".join([*words, _half_of_day(match)])


def _half_of_day(match: re.Match[str]) -> str:
    """Returns "a m" or "p m", and the period if the sentence ends with it."""
    if not match["half"]:
        return ""
    is_end = match[0].endswith(".") and SENTENCE_END.match(match.string, match.end())
    return f"{'ay' if match['half'] in 'aA' else 'p'} m{'.' if is_end else ''}"


def _money(symbol: str, number: str, magnitude: str | None) -> str:
    one, many, cent, cents = _CURRENCIES[symbol]
    if magnitude:
        return f"{say_number(number)} {_MAGNITUDES.get(magnitude, magnitude)} {many}"
    whole, _, decimals = number.partition(".")
    if len(decimals) != 2 or not whole:
        return _counted(number, one, many)
    parts = [_counted(whole, one, many)] * (whole.strip("0,") != "" or decimals == "00")
    if decimals != "00":
        parts.append(_counted(str(int(decimals)), cent, cents))
    return " and ".join(parts)


def _measure(match: re.Match[str]) -> str:
    """Returns a number with its unit, and the period behind it if the sentence ends there."""
    words = _counted(match[1], *_UNITS[match[2]])
    is_end = match[3] and SENTENCE_END.match(match.string, match.end())
    return f"{words}." if is_end else words


def _roman(match: re.Match[str]) -> str:
    """Returns the numeral behind the name of a ruler as an ordinal, behind others as a number."""
    values = [_ROMAN_DIGITS[letter] for letter in match["numeral"]]
    number = sum(
        -value if value < following else value
        for value, following in zip(values, [*values[1:], 0], strict=True)
    )
    if match["ruler"]:
        return f"{match['ruler']} the {_write_out(number, 'ordinal')}"
    return f"{match['part']} {_write_out(number)}"


def _degrees(match: re.Match[str]) -> str:
    scale = {"C": " Celsius", "F": " Fahrenheit", None: ""}[match[2]]
    return f"{_counted(match[1], 'degree', 'degrees')}{scale}"


def _decade(match: re.Match[str]) -> str:
    words = say_year(int(match[1])) if len(match[1]) == 4 else say_number(match[1])
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def _fraction(match: re.Match[str]) -> str:
    above, below = int(match[1]), int(match[2])
    if not 0 < above < below <= 10:
        return f"{say_number(match[1])} slash {say_number(match[2])}"
    one, many = _FRACTIONS.get(below, (ordinal := _write_out(below, "ordinal"), f"{ordinal}s"))
    return f"{_write_out(above)} {one if above == 1 else many}"


def _ordinal(digits: str) -> str:
    return spell_digits(digits) if len(digits) > _MAX_DIGITS else _write_out(int(digits), "ordinal")


def _rule(pattern: str, say: Callable[[re.Match[str]], str]) -> Rule:
    # Blanks around the words part them from letters, as in "mp3".
    return re.compile(pattern), lambda match: f" {say(match)} "


def _separate(groups: str) -> str:
    """Returns groups of digits, as of a telephone number, digit by digit with pauses between."""
    return ", ".join(spell_digits(group) for group in re.findall(r"\d+", groups))


_HALF_OF_DAY = r"(?P<half>[aApP])\.?[mM]\b\.?"
_AFTER_DAY = r"(?:st|nd|rd|th)?"
_YEAR = r"(?:,? (\d{4}))?(?![\d,]*\d|[.:]\d)"
_LONGEST_FIRST = sorted((unit for unit in _UNITS if unit != "in"), key=len, reverse=True)
# Without its period, "in" is a preposition.
_UNIT = "|".join([*map(re.escape, _LONGEST_FIRST), r"in(?=\.)"])
_CURRENCY = f"[{''.join(_CURRENCIES)}]"
_TO = r"\s?[-–—]\s?"
_CLOCK = r"\d{1,2}:\d\d(?:\s?[aApP]\.?[mM]\b\.?)?|\d{1,2}\s?[aApP]\.?[mM]\b\.?"

_PHONES: tuple[Rule, ...] = (
    _rule(r"(?<![\w.])\+?(?:1[-. ])?\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}\b", lambda m: _separate(m[0])),
    _rule(r"(?<![\w.,])\d{3}-\d{4}\b", lambda m: _separate(m[0])),
    _rule(r"(?<![\w.,-])\d+(?:-\d+){2,}\b", lambda m: _separate(m[0])),
)

NUMBER_RULES: tuple[Rule, ...] = (
    _rule(r"(?<![\w.])[-−](?=\.?\d)", lambda _: "minus"),
    _rule(
        r"(?<![\w'])(\d{1,2})'\s?(\d{1,2})(?:\"|'')",
        lambda m: f"{_counted(m[1], 'foot', 'feet')} {say_number(m[2])}",
    ),
    _rule(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b", _iso_date),
    _rule(r"(?<![\d/])(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)(?![\d/])", _slashed_date),
    _rule(rf"\b({_MONTH})\.? (\d{{1,2}}){_AFTER_DAY}{_YEAR}", _month_first),
    _rule(rf"\b(\d{{1,2}}) ({_MONTH})\b\.?{_YEAR}", _day_first),
    (
        re.compile(
            rf"\b(?:(?P<ruler>{_RULERS})|(?P<part>{_PARTS})) "
            # A single letter could be an initial.
            r"(?P<numeral>(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3}))\b"
        ),
        _roman,
    ),
    # The first of two times, and of two amounts or numbers that share what comes behind them. Dates
    # and telephone numbers are gone, except those of seven digits.
    (re.compile(rf"\b({_CLOCK}){_TO}(?={_CLOCK})"), lambda m: f"{m[1]} to "),
    *_PHONES,
    (
        re.compile(rf"({_CURRENCY})\s?({_NUMBER}){_TO}\1?(?={_NUMBER})"),
        lambda m: f"{say_number(m[2])} to {m[1]}",
    ),
    _rule(rf"({_NUMBER}){_TO}(?={_NUMBER}(?!\d*:))", lambda m: f"{_plain_or_year(m[1])} to"),
    _rule(rf"\b([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?![\d:])(?:\s?{_HALF_OF_DAY})?", _time),
    _rule(
        rf"\b(\d{{1,2}})\s?{_HALF_OF_DAY}",
        lambda m: f"{say_number(m[1])} {_half_of_day(m)}",
    ),
    _rule(
        rf"([{''.join(_CURRENCIES)}])\s?({_NUMBER})"
        r"(?:\s?(thousand|million|billion|trillion|bn|[kKmMB])\b)?",
        lambda m: _money(m[1], m[2], m[3]),
    ),
    _rule(rf"({_NUMBER})\s?([{''.join(_CURRENCIES)}])", lambda m: _money(m[2], m[1], None)),
    _rule(rf"({_NUMBER})\s?%", lambda m: f"{say_number(m[1])} percent"),
    _rule(rf"({_NUMBER})\s?°\s?([CF])?\b", _degrees),
    _rule(
        r"(?<![\d.,])\d+(?:\.\d+){2,}\b",
        lambda m: " point ".join(say_number(part) for part in m[0].split(".")),
    ),
    _rule(r"(?<!\w)'?((?:1[1-9]|20)?\d0)'?s\b", _decade),
    _rule(rf"({_NUMBER})\s?¢", lambda m: _counted(m[1], "cent", "cents")),
    _rule(rf"({_NUMBER})\s?({_UNIT})(?!\w)(\.?)", _measure),
    _rule(
        r"\b(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b",
        lambda m: _ordinal(m[1].replace(",", "")),
    ),
    _rule(r"(?<![\d/])(\d{1,6})/(\d{1,6})(?![\d/])", _fraction),
    _rule(r"(?<![\d:])(\d+):(\d+)(?![\d:])", lambda m: f"{say_number(m[1])} to {say_number(m[2])}"),
    _rule(r"\b[Nn]o\. ?(?=\d)|#(?=\d)", lambda _: "number"),
    _rule(r"\b[Nn]os\. ?(?=\d)", lambda _: "numbers"),
    _rule(r"\bp\. ?(?=\d)", lambda _: "page"),
    _rule(rf"{_NUMBER}", lambda m: _plain_or_year(m[0])),
)
"""Afterwards a text has no digits."""


def _plain_or_year(number: str) -> str:
    """Returns a number; four digits from 1100 to 2099 without a comma are read as a year."""
    if re.fullmatch(r"1[1-9]\d\d|20\d\d", number):
        return say_year(int(number))
    return say_number(number)
