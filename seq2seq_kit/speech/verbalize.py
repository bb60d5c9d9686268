"""English text as it is read out: words and pauses.

Numbers, dates, amounts, abbreviations, addresses, symbols and emoji become words. Knows nothing of
pronunciation.
"""

import re
import unicodedata
from typing import NamedTuple

from seq2seq_kit.errors import InputError
from seq2seq_kit.speech.numbers import NUMBER_RULES, SENTENCE_END, Rule

_TITLES = {
    "Dr": "Doctor",
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Ms",
    "Messrs": "Messieurs",
    "Prof": "Professor",
    "St": "Saint",
    "Mt": "Mount",
    "Ft": "Fort",
    "Rev": "Reverend",
    "Hon": "Honorable",
    "Gov": "Governor",
    "Sen": "Senator",
    "Rep": "Representative",
    "Gen": "General",
    "Col": "Colonel",
    "Maj": "Major",
    "Capt": "Captain",
    "Cpt": "Captain",
    "Lt": "Lieutenant",
    "Sgt": "Sergeant",
}
"""Before a name."""

# After "Main St." or "Elm Dr." these begin a sentence; they are no names.
_SENTENCE_STARTS = (
    "And|As|At|But|For|From|Her|His|How|If|In|It|Its|My|On|Our|She|So|That|The|Their|Then|There"
    "|These|They|This|To|We|What|When|Where|Why|You|Your"
)

_ABBREVIATIONS = {
    "Dr": "Drive",
    "St": "Street",
    "Ave": "Avenue",
    "Blvd": "Boulevard",
    "Rd": "Road",
    "Jr": "Junior",
    "Sr": "Senior",
    "Inc": "Incorporated",
    "Ltd": "Limited",
    "Corp": "Corporation",
    "Co": "Company",
    "Bros": "Brothers",
    "Dept": "Department",
    "dept": "department",
    "Univ": "University",
    "est": "established",
    "approx": "approximately",
    "etc": "et cetera",
    "al": "al",
    "fig": "figure",
    "Fig": "Figure",
    "vol": "volume",
    "Vol": "Volume",
    "pp": "pages",
    "Jan": "January",
    "Feb": "February",
    "Mar": "March",
    "Apr": "April",
    "Jun": "June",
    "Jul": "July",
    "Aug": "August",
    "Sep": "September",
    "Sept": "September",
    "Oct": "October",
    "Nov": "November",
    "Dec": "December",
    "Mon": "Monday",
    "Tue": "Tuesday",
    "Tues": "Tuesday",
    "Wed": "Wednesday",
    "Thu": "Thursday",
    "Thurs": "Thursday",
    "Fri": "Friday",
}
"""With a period, anywhere else."""

_PHRASES = {
    r"\bvs\.?(?=\s)": "versus",
    r"\bcf\.(?=\s)": "compare",
    r"\bPh\.\s?D\.": "PhD",
    r"\band/or\b": "and or",
    r"\b24/7\b": "twenty-four seven",
    r"\be\.g\.": "for example",
    r"\bi\.e\.": "that is",
    r"\bw/o\b": "without",
    r"\bw/(?=\s)": "with",
    r"\ba\.k\.a\.": "also known as",
}

_SYMBOLS = {
    "&": "and",
    "@": "at",
    "%": "percent",
    "#": "hash",
    "+": "plus",
    "=": "equals",
    "/": "slash",
    "\\": "backslash",
    "*": "asterisk",
    "_": "underscore",
    "~": "tilde",
    "^": "caret",
    "|": "vertical bar",
    "<": "less than",
    ">": "greater than",
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "°": "degrees",
    "×": "times",
    "÷": "divided by",
    "±": "plus or minus",
    "©": "copyright",
    "®": "registered",
    "§": "section",
    "→": "to",
    "≈": "about",
    "≤": "at most",
    "≥": "at least",
    "≠": "is not",
}
"""Other symbols and emoji are called by their Unicode names."""

_POWERS = {"²": "squared", "³": "cubed"}

_ADDRESS_SYMBOLS = {
    ".": "dot",
    "-": "dash",
    ":": "colon",
    "?": "question mark",
    "&": "and",
    "~": "tilde",
}

# Letters that are no base letter with marks.
_LATIN = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "Œ": "Oe",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "ð": "th",
        "Ð": "Th",
        "þ": "th",
        "Þ": "Th",
        "ı": "i",
    }
)
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u2032\uff07`\u00b4", "'"))

# In capitals these are initials; the dictionary has other words of the same letters.
_INITIALS = re.compile(r"\b(?:US|IT|AI|UN|EU|AM)\b")


# Apostrophes belong to a word within it, and before it in few words.
_WORD = re.compile(r"(?:\B'(?=(?:em|til|cause|tis|twas|n)\b))?[A-Za-z]+(?:'[A-Za-z]+)*")
_LOWER_CASE = re.compile("[a-z]")


class Clause(NamedTuple):
    """Words that are spoken without a pause."""

    words: tuple[str, ...]
    """Each is letters and apostrophes. Initials are words of one letter."""
    pause: str
    """The punctuation mark behind them, one of `,;:.!?`: it sets pause and intonation."""

    @property
    def ends_sentence(self) -> bool:
        """Whether a sentence ends behind the words."""
        return self.pause in ".!?"


def verbalize(text: str) -> list[Clause]:
    """Returns the clauses of an English text as they are read out.

    A line break ends a sentence. Quotation marks are not spoken, brackets are pauses, a repeated
    symbol is spoken once.

    Args:
        text: Any text in Latin letters; letters with diacritics are read as those without.

    Returns:
        Its clauses, of which each has a word at least; none for a text without words.

    Raises:
        InputError: If the text has letters that are not Latin, or num2words is missing.

    Example:

    >>> for clause in verbalize("Dr. Smith paid $5.50."):
    ...     print(*clause.words, clause.pause)
    Doctor Smith paid five dollars and fifty cents .
    """
    clauses: list[Clause] = []
    for line in re.split(r"[\n\r\v\f\x85\u2028\u2029]+", text):
        clauses += _clauses(_to_words(line))
    return clauses


def _to_words(line: str) -> str:
    """Returns a line as words of Latin letters, with pauses between them."""
    # Before compatibility forms are replaced, which would make 21/2 of 2½.
    line = re.sub(r"(?<=\d)\s?(?=[¼-¾⅐-⅞])", " and ", line)
    line = re.sub(r"(?<=\w)(?<!m)[²³]", lambda m: f" {_POWERS[m[0]]} ", line)
    line = unicodedata.normalize("NFKC", line).replace("\u2044", "/").translate(_APOSTROPHES)
    for pattern, say in _RULES:
        line = pattern.sub(say, line)
    # Marks after letters are dropped: é is read as e.
    line = unicodedata.normalize("NFKD", line).translate(_LATIN)
    return "".join(map(_say_character, re.sub(r"([^\w\s])\1+", r"\1", line)))


def _address(match: re.Match[str]) -> str:
    """Returns an address of the web or of e-mail, without its scheme."""
    address = re.sub(r"^\w+://", "", match[0])
    www = "w w w dot " if address.startswith("www.") else ""
    symbols = _SYMBOLS | _ADDRESS_SYMBOLS
    words = re.sub(
        r"[^\w']|_", lambda one: f" {symbols.get(one[0], one[0])} ", address.removeprefix("www.")
    )
    return f" {www}{words} "


def _abbreviation(match: re.Match[str]) -> str:
    """Returns an abbreviation in full; its period stays if the sentence seems to end there."""
    words = _ABBREVIATIONS[match[1]]
    return f"{words}." if SENTENCE_END.match(match.string, match.end()) else words


def _spell(match: re.Match[str]) -> str:
    """Returns initials as words of one letter; the "a" among them is no article."""
    return " ".join("ay" if one in "Aa" else one for one in re.findall(r"[^\W\d_]", match[0]))


def _say_character(character: str) -> str:
    """Returns a letter or a pause as it is, anything else as the words for it."""
    if character.isascii() and (character.isalpha() or character in "',;:.!? "):
        return character
    if character == '"':
        return " "
    if character in _SYMBOLS:
        return f" {_SYMBOLS[character]} "
    match unicodedata.category(character):
        case "Pd":  # hyphens; longer dashes have become pauses
            return " "
        case "Ps" | "Pe" | "Po":
            return ", "
        case "Pi" | "Pf" | "Zs" | "Cc":
            return " "
        case "Mn" | "Me" | "Cf":
            return ""
    if unicodedata.name(character, "").startswith("EMOJI MODIFIER"):
        return ""
    name = unicodedata.name(character, "")
    if not name or (character.isalpha() and not name.startswith("GREEK")):
        raise InputError(
            f"Expected English text in Latin letters. Received {character!r}"
            f"{f' ({name})' if name else ''}. Leave it out, or write it in Latin letters."
        )
    return f" {_symbol_name(name)} "


def _symbol_name(name: str) -> str:
    """Returns the words for a character with a Unicode name: of letters, only which one it is."""
    last_words = re.search(r"(?:LETTER|SYMBOL LETTER) (.+)", name)
    return re.sub(r"[^a-z]+", " ", (last_words[1] if last_words else name).lower())


def _clauses(text: str) -> list[Clause]:
    """Returns the clauses of words of Latin letters with pauses between them."""
    clauses: list[Clause] = []
    for words, pauses in re.findall(r"([^,;:.!?]*)([,;:.!?\s]*)", text):
        found = _WORD.findall(words)
        # Of several marks, the one that ends a sentence: "...?" is a question.
        pause = next((mark for mark in "?!.;:," if mark in pauses), ".")
        if found:
            clauses.append(Clause(tuple(found), pause))
        elif clauses and not clauses[-1].ends_sentence:
            clauses[-1] = clauses[-1]._replace(pause=pause)
    if clauses and not clauses[-1].ends_sentence:
        clauses[-1] = clauses[-1]._replace(pause=".")
    return clauses


def _one_of(words: dict[str, str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_RULES: tuple[Rule, ...] = (
    (
        re.compile(
            r"\b(?:https?|ftp)://[^\s<>\"]*[^\s<>\".,;:!?)'\]]|\bwww\.[^\s<>\"]*[^\s<>\".,;:!?)'\]]"
            r"|\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+"
            r"|\b(?:[\w-]{1,63}\.){1,5}(?:com|org|net|edu|gov|io)\b(?:/[^\s<>\"]*[^\s<>\".,;:!?)'\]])?"
        ),
        _address,
    ),
    *((re.compile(pattern), lambda _, words=words: words) for pattern, words in _PHRASES.items()),
    (
        re.compile(
            rf"\b({_one_of(_TITLES)})\.\s+(?=[A-Z]|and [A-Z])"
            rf"(?!(?<=(?:St|Dr)\.\s)(?:{_SENTENCE_STARTS})\b)"
        ),
        lambda m: f"{_TITLES[m[1]]} ",
    ),
    *NUMBER_RULES,
    (re.compile(rf"\b({_one_of(_ABBREVIATIONS)})\."), _abbreviation),
    (re.compile(r"\b(?:[A-Za-z]\.){2,}(?=\s+[A-Z]|\s*$)"), lambda m: f"{_spell(m)}."),
    (re.compile(r"\b(?:[A-Za-z]\.){2,}"), _spell),
    (re.compile(r"\b[A-Z]\.(?=\s?[A-Z])"), lambda m: f"{_spell(m)} "),
    (_INITIALS, lambda m: _spell(m) if _LOWER_CASE.search(m.string) else m[0]),
    (re.compile(r"\s[-–—]+\s|[–—]|--+|\.{2,}|…"), lambda _: "; "),
)
