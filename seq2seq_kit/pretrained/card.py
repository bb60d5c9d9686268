"""Model cards: Markdown with a head of YAML between two lines `---`.

`Card` is the head that an author writes, `PackedCard` the one in the package: packing adds what it
measured.
"""

import re
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from seq2seq_kit.config.faults import explain, list_faults
from seq2seq_kit.config.section import Section
from seq2seq_kit.config.yaml import parse_yaml
from seq2seq_kit.errors import ConfigError

SECTIONS = ("Data", "Training", "Quality", "Weaknesses", "Memorization")
"""The headings that every card has."""

Text = Annotated[str, Field(min_length=1)]


class Card(Section):
    """The head of a card as its author writes it."""

    summary: Text
    """What the model does, in a few words."""
    languages: Annotated[tuple[Text, ...], Field(min_length=1)]
    """The codes of its languages, ISO 639: `[de, en]`."""
    data: Text
    """What it was trained on, in a line."""
    license: Text
    """The licenses of those data, and of the model."""
    scores: Annotated[dict[str, float | str], Field(min_length=1)]
    """Held-out scores by name, with their unit in the name."""


class Packing(Section):
    """What packing measured: the first lines of the validation data, before and after."""

    weights: str
    """How matrices are stored."""
    lines: int
    """The number of lines."""
    different_outputs: int
    """The number of lines with another output than from the run."""
    perplexity_before: float
    """The perplexity per token from the run."""
    perplexity_after: float
    """The perplexity per token from the packed model."""
    bleu_before: float | None = None
    """BLEU from the run; translation only."""
    bleu_after: float | None = None
    """BLEU from the packed model; translation only."""


class PackedCard(Card):
    """The head of the card of a packaged model."""

    task: str
    """translation or continuation."""
    parameters: int
    """The number of weights."""
    packing: Packing
    """What packing measured."""


Head = TypeVar("Head", bound=Card)


def parse_card(text: str, name: str, head: type[Head]) -> tuple[Head, str]:
    """Returns the head of a card, checked, and the text below it.

    Args:
        text: The card.
        name: What to call it in messages.
        head: The class of the head.

    Raises:
        ConfigError: If there is no head, a key of it is wrong, or a section is missing.
    """
    found = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
    if found is None:
        raise ConfigError(
            f"{name}: a card must begin with a head of YAML between two lines `---`, with the keys "
            f"{', '.join(head.model_fields)}."
        )
    values = parse_yaml(found[1], name)
    try:
        checked = head.model_validate(values)
    except ValidationError as error:
        raise ConfigError(list_faults(name, explain(error, values, head))) from error
    body = found[2].strip("\n") + "\n"
    headings = re.findall(r"^## (.+?)\s*$", body, re.MULTILINE)
    if missing := [section for section in SECTIONS if section not in headings]:
        raise ConfigError(
            f"{name}: a card must have the sections {', '.join(f'`## {one}`' for one in SECTIONS)}."
            f" Missing: {', '.join(missing)}."
        )
    return checked, body
