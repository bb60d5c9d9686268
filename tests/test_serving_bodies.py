"""The bodies of `POST /generate`."""

import json
from typing import Any

import pytest

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.serving.bodies import Limits, parse_body, parse_json

LIMITS = Limits(texts=2, characters=5, max_length=50, beam_size=8)


def test_a_body_is_split_into_its_own_fields_and_options_of_the_search() -> None:
    values = {"texts": ["a", "b"], "prefixes": ["", "c"], "beam_size": 2, "banned_texts": ["x"]}
    body, given = parse_body(values, LIMITS)
    assert (body.texts, body.prefixes, body.num_hypotheses) == (("a", "b"), ("", "c"), 1)
    assert (body.model, body.truncate, body.stream) == (None, False, False)
    assert given == {"beam_size": 2, "banned_texts": ["x"]}


def test_every_option_of_the_search_is_accepted_by_its_name() -> None:
    every = DecodingConfig(max_length=50).model_dump(mode="json")
    assert len(every) == len(DecodingConfig.model_fields)
    body = parse_json(json.dumps({"texts": ["a"], **every}).encode())
    _, given = parse_body(body, LIMITS)
    assert DecodingConfig().override(**given) == DecodingConfig(max_length=50)
    assert given.keys() == DecodingConfig.model_fields.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": None}, "`texts` must be a list"),
        ({"texts": []}, "`texts` must not be empty"),
        ({"texts": ["a", 3]}, "must be a text"),
        ({"texts": ["a"] * 3}, "at most 2 texts"),
        ({"texts": ["a", "b" * 6]}, "Text 2 has 6"),
        ({"num_hypotheses": 9}, "`num_hypotheses` must be at most 8"),
        ({"num_hypotheses": True}, "`num_hypotheses` must be a whole number"),
        ({"beam_size": 9}, "`beam_size` must be at most 8"),
        ({"max_length": 10**5000}, "`max_length` must be at most 50"),
        ({"banned_texts": ["x"] * 101}, "at most 100"),
        ({"beam_sise": 2}, "Did you mean `beam_size`"),
        ({"prefixes": ["a", "b"]}, "one text for each of the 1 inputs"),
        ({"stream": 1}, "`stream` must be true or false"),
        ({"stream": True, "num_hypotheses": 2}, "best output of one text"),
        ({"stream": True, "texts": ["a", "b"]}, "best output of one text"),
        ({"stream": True, "alignments": True}, "best output of one text"),
    ],
)
def test_a_wrong_body_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_body({"texts": ["a"]} | changes, LIMITS)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a": "\\ud800"}',
        b'{"seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InputError, match="must be a JSON object"):
        parse_json(body)
