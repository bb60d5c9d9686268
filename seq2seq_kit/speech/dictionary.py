"""The CMU Pronouncing Dictionary: how 126,000 English words are pronounced in America."""

import functools
import gzip
from pathlib import Path

PATH = Path(__file__).parent / "data" / "cmudict.dict.gz"
"""The bundled dictionary; `README.md` beside it gives its origin and license."""

Phones = tuple[str, ...]
"""ARPAbet phones such as `HH AH0 L OW1`. A vowel ends with its stress: 1 primary, 2 secondary, 0
none."""


@functools.cache
def load_dictionary() -> dict[str, tuple[Phones, ...]]:
    """Returns the pronunciations of each word, the usual one first.

    Returns:
        From words in lower case, which may contain apostrophes, hyphens and periods, to their
        pronunciations, one or more.

    Example:

    >>> load_dictionary()["tomato"]
    (('T', 'AH0', 'M', 'EY1', 'T', 'OW2'), ('T', 'AH0', 'M', 'AA1', 'T', 'OW2'))
    """
    words: dict[str, tuple[Phones, ...]] = {}
    with gzip.open(PATH, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    for line in lines:
        # Such as "aalborg(2) AA1 L B AO0 R G # place, danish".
        name, *phones = line.partition(" #")[0].split()
        word = name.partition("(")[0]
        words[word] = (*words.get(word, ()), tuple(phones))
    return words
