"""Alternatives are the tokens that the network finds likeliest, computed a second, plain way."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from untrained import untrained_model, untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.errors import InputError
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.special_ids import BOS_ID, EOS_ID, PAD_ID, UNK_ID


class Subject(NamedTuple):
    """A model, an input, and a text of three tokens that it could write after it."""

    model: Seq2Seq
    source: str
    target: str


@pytest.fixture(scope="module", params=["translator", "writer"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("model")
    if request.param == "translator":
        return Subject(untrained_model(folder), "ab", "xyx")
    return Subject(untrained_writer(folder), "01", "110")


def test_all_tokens_that_can_be_written_are_alternatives(subject: Subject) -> None:
    model, source, target = subject
    vocab_size = model.tokenizer.vocab_size
    found = insight.alternatives(model, source, target, step=1, count=vocab_size)
    assert len(found) == vocab_size - 3  # Without padding, unknown and BOS.
    log_probs = [one.log_prob for one in found]
    assert log_probs == sorted(log_probs, reverse=True)
    source_ids = model.inputs.encode_rows([source])[0]
    before = [
        *(source_ids if model.config.joins_texts else []),
        *model.tokenizer.encode([target])[0][:1],
    ]
    logits = np.array(
        model.model(
            {
                "source_ids": np.array([[*source_ids, EOS_ID]]),
                "decoder_input_ids": np.array([[BOS_ID, *before]]),
            }
        )
    )[0, -1].astype(float)
    total = sum(math.exp(logit) for logit in logits)
    expected = {
        model.tokenizer.pieces[place]: math.log(math.exp(logit) / total)
        for place, logit in enumerate(logits)
        if place not in (PAD_ID, UNK_ID, BOS_ID)
    }
    assert {one.token: one.log_prob for one in found} == pytest.approx(expected, abs=1e-5)


def test_the_token_that_is_written_has_its_surprise(subject: Subject) -> None:
    reading = insight.surprise(*subject)
    for step, (token, nats) in enumerate(zip(reading.tokens, reading.nats, strict=True)):
        found = insight.alternatives(*subject, step=step, count=1000)
        (one,) = (one for one in found if one.token == token)
        assert -one.log_prob == pytest.approx(nats, abs=1e-4)
        assert one.is_end == (step == len(reading.tokens) - 1)


def test_an_alternative_has_the_text_that_forces_it(subject: Subject) -> None:
    model, source, target = subject
    first = model.tokenizer.encode([target])[0][:2]
    found = insight.alternatives(*subject, step=2, count=1000)
    assert {one.token for one in found if one.is_end} == (
        {"</s>"} if model.config.task == "translation" else {"</s>", "\n"}
    )
    texts = {one.text: one.token for one in found if not one.is_end}
    for text, token in texts.items():
        assert text == model.tokenizer.decode([[*first, model.tokenizer.pieces.index(token)]])[0]
    text = next(iter(texts))
    ((hypothesis,),) = model.hypotheses([source], prefixes=[text])
    assert hypothesis.text.startswith(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 99}, "`step` must be from 0 to \\d, the places .* Received: 99"),
        ({"step": -1}, "`step` must be from 0 to \\d"),
        ({"step": 0, "count": 0}, "`count` must be 1 or more. Received: 0"),
    ],
)
def test_a_place_that_does_not_exist_is_an_error(
    subject: Subject, values: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        insight.alternatives(*subject, **values)
