"""Model cards: what is read from them, and what is refused."""

import pytest
from untrained import CARD

from seq2seq_kit.errors import ConfigError
from seq2seq_kit.pretrained.card import Card, PackedCard, parse_card


def test_a_card_has_a_head_and_a_body() -> None:
    head, body = parse_card(CARD, "card.md", Card)
    assert (head.summary, head.languages) == ("Letters to other letters", ("en",))
    assert head.scores == {"BLEU": 12.5}
    assert body.startswith("# A card\n")
    assert body.endswith("## Memorization\nNone.\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("---\nsummary", "summary", "card.md: a card must begin with a head of YAML between"),
        ("license: CC0\n", "", "card.md: license: is required"),
        ("license:", "licence:", "card.md: licence: is an unknown key. Did you mean `license`"),
        ("CC0", "", "card.md: license: must be a text, but has no value"),
        ("[en]", "[]", "card.md: languages: must not be empty"),
        ("## Weaknesses", "## Strengths", "must have the sections .*Missing: Weaknesses"),
        ("summary: L", "summary: [", "card.md: is not valid YAML: line 2"),
    ],
)
def test_a_card_that_lacks_something_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_card(CARD.replace(old, new), "card.md", Card)


def test_the_card_of_a_packaged_model_has_what_packing_measured() -> None:
    with pytest.raises(ConfigError, match="parameters: is required"):
        parse_card(CARD, "card.md", PackedCard)
