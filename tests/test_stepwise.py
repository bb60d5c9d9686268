"""Outputs that appear piece by piece, against those of a whole search."""

from typing import Any

import pytest
from reference import NETWORKS, NumberTokenizer, generator_of, random_lines, random_network

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.inference.stepwise import graph_numbers

LINES = random_lines(6, longest=13)


def make_generator(kind: str, *, keep_end: bool = False) -> Generator:
    return generator_of(
        random_network(kind, decoder_layers=1),
        NumberTokenizer(),
        NumberTokenizer(),
        defaults=DecodingConfig(max_length=10),
        keep_end=keep_end,
    )


@pytest.mark.parametrize("kind", ["additive", "language model"])
def test_streamed_pieces_are_the_output_of_a_whole_search(kind: str) -> None:
    assert kind in NETWORKS
    generator = make_generator(kind, keep_end=kind == "language model")
    num_pieces = 0
    options: list[dict[str, Any]] = [{"beam_size": 1}, {"beam_size": 3}, {"sample": True}]
    for one in options:
        expected = [best.text for best, *_ in generator.hypotheses(LINES, **one)]
        pieces = [list(generator.stream(line, **one)) for line in LINES]
        assert ["".join(part) for part in pieces] == expected
        num_pieces += sum(map(len, pieces))
    assert num_pieces > 2 * len(LINES)


def test_an_empty_line_streams_nothing_and_an_odd_input_is_refused() -> None:
    generator = make_generator("additive")
    assert list(generator.stream("")) == []
    for text in (["7"], None):
        with pytest.raises(InputError, match="Expected a text"):
            generator.stream(text)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Line 5 has 21 tokens"):
        generator.stream("7 " * 21, first_line=5)


@pytest.mark.parametrize("kind", ["additive", "language model"])
def test_single_steps_have_the_bits_of_a_whole_search(kind: str) -> None:
    generator = make_generator(kind, keep_end=kind == "language model")
    decoding = generator.defaults.override(sample=True)
    graphs, numbers = generator.stepwise.graphs(decoding), graph_numbers(decoding)
    for line, (whole,) in zip(LINES, generator.hypotheses(LINES, decoding=decoding), strict=True):
        begun = graphs.begin(generator.inputs.encode([line]), numbers)
        memory, record = graphs.memory(begun.beginning, numbers), begun.record
        while int(record.time) <= 10 and not record.done[0]:
            record = graphs.step(record, begun.beginning, memory, numbers)
        assert float(record.log_probs[0]) == whole.log_prob
