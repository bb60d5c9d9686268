r"""Text in one spelling before SentencePiece encodes it, and back after decoding; Python and graph.

Unicode spells `é` as one character or two, and has characters that nobody sees: normalization maps
such equivalent texts to one. A text's own U+2581, which SentencePiece uses as its mark for a space,
is escaped, so that decoding restores it. Knows nothing of tokens.

Each Python function has a counterpart for TensorFlow's strings that gives the same bytes.

Every normalization but `none` drops the soft hyphen, the zero-width space, byte order marks, the
marks of writing direction, invisible operators and the other characters that Unicode calls default
ignorable, and U+FDD0. It replaces by U+0020 the no-break space, the other spaces of a given width
(U+2000 to U+200A, U+202F, U+205F), the line and paragraph separators, and the blank Hangul fillers.
It drops carriage returns at the end of a line or text.

It keeps characters that can be seen or change how others look: the joiners ZWJ and ZWNJ (Persian,
Sinhala, emoji), variation selectors (emoji, Han, Mongolian), tags (flags), the conjoining Hangul
fillers, the controls of shorthand and music, the ideographic space U+3000, the Ogham space; and
tabs and the other control characters, which are data.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from seq2seq_kit.config.section import Normalization
from seq2seq_kit.errors import DataError

SPACE_MARK = "\u2581"

# Unicode's Default_Ignorable_Code_Point without the characters that the module keeps, and the
# noncharacter that `_SHIELDS` uses.
# Source: https://www.unicode.org/Public/16.0.0/ucd/DerivedCoreProperties.txt
_DROPPED = (
    "\u00ad\u034f\u061c\u17b4\u17b5\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufdd0\ufeff"
)
_LANGUAGE_TAG = "\U000e0001"  # dropped too
_SPACES = "\u00a0\u2000-\u200a\u2028\u2029\u202f\u205f\u3164\uffa0"

# Unicode 15 and 16 changed the normalization of the following. Python 3.11 has Unicode 14, later
# versions newer ones, and the graph's op has Unicode 16; the result must be the same everywhere.
# Marks, which would be reordered, stay where they are ...
_NEWER_MARKS = (
    "\u0897\U00010d69-\U00010d6d\U00010efd-\U00010eff\U000113ce-\U000113d0\U00011f41\U00011f42"
    "\U0001612f\U0001e08f\U0001e4ec-\U0001e4ef\U0001e5ee\U0001e5ef"
)
# ... scripts with new compositions are not composed ...
_NEWER_SCRIPTS = (
    "\U000105c0-\U000105ff\U00011380-\U000113ff\U00016100-\U0001613f\U00016d40-\U00016d7f"
)
# ... and these are decomposed here, as later versions of Python do.
_NEWER_DECOMPOSITIONS = {
    "nfd": {
        0x105C9: "\U000105d2\u0307",
        0x105E4: "\U000105da\u0307",
        0x11383: "\U00011382\U000113c9",
        0x11385: "\U00011384\U000113bb",
        0x1138E: "\U0001138b\U000113c2",
        0x11391: "\U00011390\U000113c9",
        0x113C5: "\U000113c2\U000113c2",
        0x113C7: "\U000113c2\U000113b8",
        0x113C8: "\U000113c2\U000113c9",
        0x16121: "\U0001611e\U0001611e",
        0x16122: "\U0001611e\U00016129",
        0x16123: "\U0001611e\U0001611f",
        0x16124: "\U00016129\U0001611f",
        0x16125: "\U0001611e\U00016120",
        0x16126: "\U0001611e\U0001611e\U0001611f",
        0x16127: "\U0001611e\U00016129\U0001611f",
        0x16128: "\U0001611e\U0001611e\U00016120",
        0x16D68: "\U00016d67\U00016d67",
        0x16D69: "\U00016d63\U00016d67",
        0x16D6A: "\U00016d63\U00016d67\U00016d67",
    },
    "nfkc": dict(enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", start=0x1CCD6))
    | dict(
        enumerate("абвгдежзиклмопрстуфхцчшыэюꚉәіјөүӏабвгдежзиклопсуфхцчшъыґіѕџҫꙑұ", start=0x1E030)
    ),
}


class _Rewrite(NamedTuple):
    """A replacement that Python's `re` and TensorFlow's RE2 carry out in the same way."""

    pattern: re.Pattern[str]
    replacement: str

    def in_python(self, text: str) -> str:
        return self.pattern.sub(self.replacement, text)

    def in_graph(self, texts: Any) -> Any:
        import tensorflow as tf

        return tf.strings.regex_replace(texts, self.pattern.pattern, self.replacement)

    def as_step(self) -> list[Any]:
        return ["replace", self.pattern.pattern, self.replacement]


_VISIBLE_ONLY = (
    _Rewrite(re.compile(f"[{_DROPPED}{_LANGUAGE_TAG}]"), ""),
    _Rewrite(re.compile(f"[{_SPACES}]"), " "),
    _Rewrite(re.compile("\r+\n"), "\n"),
    _Rewrite(re.compile("\r+$"), ""),
)
# A character between noncharacters stays as it is: nothing composes with those or moves past them.
_SHIELDED = {
    "nfc": _NEWER_MARKS + _NEWER_SCRIPTS,
    "nfd": _NEWER_MARKS,
    "nfkc": _NEWER_MARKS + _NEWER_SCRIPTS,
}
_SHIELDS = {
    form: _Rewrite(re.compile(f"([{characters}])"), "\ufdd0\\1\ufdd0")
    for form, characters in _SHIELDED.items()
}
# All characters that are dropped, replaced or shielded; most texts have none of them.
_ODD = re.compile(f"[{_DROPPED}{_SPACES}\r\u0897\U00010000-\U0010ffff]")
_UNSHIELD = _Rewrite(re.compile("\ufdd0"), "")

# A text's own U+2581 is escaped with U+0010, "data link escape", and so is U+0010. The character
# after an escape is never U+2581 or U+0010, so no replacement changes the result of another.
_ESCAPES = (
    _Rewrite(re.compile("\x10"), "\x10\x11"),
    _Rewrite(re.compile(SPACE_MARK), "\x10\x12"),
)
_UNESCAPES = (
    _Rewrite(re.compile(SPACE_MARK), " "),
    _Rewrite(re.compile("\x10\x12"), SPACE_MARK),
    _Rewrite(re.compile("\x10\x11"), "\x10"),
)


class TextRules(NamedTuple):
    """How a tokenizer changes texts before encoding and after decoding."""

    normalization: Normalization
    """The Unicode form, without invisible characters; "none" leaves texts unchanged."""
    escapes: bool
    """Whether a U+2581 in a text is distinguished from a space. Not in models of versions before
    these rules, nor in models with a charsmap, which may drop an escape."""

    def prepare(self, text: str) -> str:
        """Returns a text in the form that SentencePiece encodes."""
        text = normalize(text, self.normalization)
        if self.escapes and (SPACE_MARK in text or "\x10" in text):
            text = _rewrite(text, _ESCAPES)
        return text

    def prepare_tensor(self, texts: Any) -> Any:
        """Does the same as `prepare` in a graph.

        Args:
            texts: string `(...)`, UTF-8. Other bytes are unchanged.

        Returns:
            string `(...)`.
        """
        texts = normalize_tensor(texts, self.normalization)
        return _rewrite_tensor(texts, _ESCAPES) if self.escapes else texts

    def prepare_steps(self) -> list[list[Any]]:
        """Returns what `prepare` does as data, for programs that do not have this package.

        Returns:
            Steps, to be taken in their order: `["replace", pattern, replacement]` for Python's
            `re`, `["translate", {code_point: text}]` and `["normalize", form]`.
        """
        steps = [] if self.normalization == "none" else _normalization_steps(self.normalization)
        return steps + [rewrite.as_step() for rewrite in _ESCAPES if self.escapes]

    def restore_steps(self) -> list[list[Any]]:
        """Returns what `restore` does as data; as `prepare_steps`."""
        rewrites = _UNESCAPES if self.escapes else _UNESCAPES[:1]
        steps = [rewrite.as_step() for rewrite in rewrites]
        return steps + (_form_steps("nfc") if self.normalization == "nfd" else [])

    def restore(self, text: str) -> str:
        """Converts what SentencePiece decodes back to text; with `nfd`, composed to NFC."""
        text = _rewrite(text, _UNESCAPES if self.escapes else _UNESCAPES[:1])
        return _to_form(text, "nfc") if self.normalization == "nfd" else text

    def restore_tensor(self, texts: Any) -> Any:
        """Does the same as `restore` in a graph; string `(...)` to string `(...)`."""
        texts = _rewrite_tensor(texts, _UNESCAPES if self.escapes else _UNESCAPES[:1])
        return _to_form_tensor(texts, "nfc") if self.normalization == "nfd" else texts


def normalize(text: str, normalization: Normalization) -> str:
    r"""Returns a text in a Unicode form, without the characters that nobody sees.

    Args:
        text: The text.
        normalization: The Unicode form; "none" leaves the text unchanged.

    Returns:
        The normalized text. Normalizing it again changes nothing.

    Example:

    >>> normalize("e\u0301\u200b\u00a0!", "nfc")
    'é !'
    """
    if normalization == "none" or (text.isascii() and "\r" not in text):
        return text
    form: Any = normalization.upper()
    if not _ODD.search(text) and unicodedata.is_normalized(form, text):
        return text
    return _to_form(_rewrite(text, _VISIBLE_ONLY), normalization)


def normalize_tensor(texts: Any, normalization: Normalization) -> Any:
    """Does the same as `normalize` in a graph; string `(...)` to string `(...)`."""
    if normalization == "none":
        return texts
    return _to_form_tensor(_rewrite_tensor(texts, _VISIBLE_ONLY), normalization)


def check_encodable(texts: Sequence[str]) -> None:
    """Raises DataError if a text holds half of a surrogate pair, which UTF-8 cannot spell."""
    for index, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"Text {index + 1}: character {error.start + 1} ({text[error.start]!r}) is half of "
                "a surrogate pair, which UTF-8 cannot spell. Decode the text from its bytes again."
            ) from error


def _to_form(text: str, form: str) -> str:
    text = _SHIELDS[form].in_python(text).translate(_NEWER_DECOMPOSITIONS.get(form, {}))
    text = unicodedata.normalize(form.upper(), text)  # type: ignore[arg-type]
    return text.replace("\ufdd0", "")


def _normalization_steps(normalization: str) -> list[list[Any]]:
    """Returns what `normalize` does as data."""
    return [rewrite.as_step() for rewrite in _VISIBLE_ONLY] + _form_steps(normalization)


def _form_steps(form: str) -> list[list[Any]]:
    """Returns what `_to_form` does as data."""
    return [
        _SHIELDS[form].as_step(),
        ["translate", _NEWER_DECOMPOSITIONS.get(form, {})],
        ["normalize", form.upper()],
        ["replace", "\ufdd0", ""],
    ]


def _to_form_tensor(texts: Any, form: str) -> Any:
    import tensorflow_text

    texts = tensorflow_text.normalize_utf8(_SHIELDS[form].in_graph(texts), form.upper())
    return _UNSHIELD.in_graph(texts)


def _rewrite(text: str, rewrites: Iterable[_Rewrite]) -> str:
    for rewrite in rewrites:
        text = rewrite.in_python(text)
    return text


def _rewrite_tensor(texts: Any, rewrites: Iterable[_Rewrite]) -> Any:
    for rewrite in rewrites:
        texts = rewrite.in_graph(texts)
    return texts
