"""Fonts for labels in any script: matplotlib's own has no Chinese characters."""

import functools
import logging
from collections.abc import Iterable, Iterator

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties

_logger = logging.getLogger(__name__)

# Tried before all other fonts: they have both simplified and traditional characters.
_PREFERRED = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Heiti SC",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)
_SHOWN = 10


def families_for(texts: Iterable[str]) -> list[str]:
    """Returns font families that together have all characters of some texts.

    The first ones are those of matplotlib's settings. Logs a warning if no installed font has a
    character.

    Args:
        texts: The texts.
    """
    families = list(mpl.rcParams["font.family"])
    missing = {character for text in texts for character in text if not character.isspace()}
    for family in families:
        missing -= _characters_of(font_manager.findfont(FontProperties(family=[family])))
    for family, path in _candidates():
        if not missing:
            return families
        if found := missing & _characters_of(path):
            families.append(family)
            missing -= found
    if missing:
        shown = " ".join(sorted(missing)[:_SHOWN]) + " ..." * (len(missing) > _SHOWN)
        _logger.warning(
            "No installed font has these characters, which are drawn as boxes: %s. Install one, "
            "such as Noto Sans CJK (Debian and Ubuntu: apt install fonts-noto-cjk).",
            shown,
        )
    return families


def _candidates() -> Iterator[tuple[str, str]]:
    """Yields the family and the file of each installed font, the preferred ones first."""
    _add_new_fonts()
    fonts = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist)}
    order = {name: place for place, name in enumerate(_PREFERRED)}
    for name in sorted(fonts, key=lambda name: (order.get(name, len(order)), name)):
        # These have a box for every character of Unicode.
        if "last resort" not in name.lower():
            yield name, fonts[name]


def _add_new_fonts() -> None:
    """Adds the fonts that were installed after matplotlib made its list, which it keeps on disk."""
    known = {str(font.fname) for font in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        try:
            font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError):
            continue  # matplotlib cannot use it, as it does not use bitmap fonts.


@functools.lru_cache(maxsize=256)
def _characters_of(path: str) -> frozenset[str]:
    """Returns the characters that a font file has; none if it cannot be read."""
    try:
        font = font_manager.get_font(path)
    except (OSError, RuntimeError):
        # A font that was removed, or that FreeType does not understand.
        return frozenset()
    return frozenset(map(chr, font.get_charmap()))
