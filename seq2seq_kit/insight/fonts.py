"""Fonts for labels in any script: matplotlib's own has no Chinese characters."""

import functools
import logging
from collections.abc import Iterable, Iterator

from matplotlib import font_manager

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

    matplotlib's default is the first of them. Logs a warning if no installed font has a character.

    Args:
        texts: The texts.
    """
    families = ["DejaVu Sans"]
    missing = {character for text in texts for character in text if not character.isspace()}
    missing -= _characters_of(font_manager.findfont("DejaVu Sans"))
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
            "such as Noto Sans CJK (Debian and Ubuntu: apt install fonts-noto-cjk), and restart "
            "Python.",
            shown,
        )
    return families


def _candidates() -> Iterator[tuple[str, str]]:
    """Yields the family and the file of each installed font, the preferred ones first."""
    fonts = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist)}
    order = {name: place for place, name in enumerate(_PREFERRED)}
    for name in sorted(fonts, key=lambda name: (order.get(name, len(order)), name)):
        yield name, fonts[name]


@functools.lru_cache(maxsize=256)
def _characters_of(path: str) -> frozenset[str]:
    """Returns the characters that a font file has; none if it cannot be read."""
    try:
        font = font_manager.get_font(path)
    except (OSError, RuntimeError):
        # A font that was removed, or that FreeType does not understand.
        return frozenset()
    return frozenset(map(chr, font.get_charmap()))
