"""What a server asks of a run and of an export."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from untrained import untrained_writer

from seq2seq_kit.config import DecodingConfig, load_config
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.insight import Aligner
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.serving.models import AlignedHypothesis, ServedExport, ServedRun
from seq2seq_kit.serving.options import SearchOptions

PAIRS = {"data": {"train": {"tsv": "pairs.tsv"}}}


class Recorder:
    """Stands for a `Seq2Seq` or `ExportedModel`, and records what it is asked."""

    def __init__(self, **decoding: Any) -> None:
        self.config = load_config({**PAIRS, "decoding": decoding})
        self.metadata = {"num_hypotheses": 3}
        self.can_be_rebuilt = False
        self.asked: list[Any] = []
        self.inputs = types.SimpleNamespace(
            encode_rows=lambda texts, *, truncate: [[4] * len(text) for text in texts]
        )

    def hypotheses(self, texts: list[str], **options: Any) -> Iterator[list[Hypothesis]]:
        self.asked.append((texts, options))
        return iter([[Hypothesis(text, (), -1.0, -1.0)] for text in texts])

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        self.asked.append((text, options))
        return iter(text)


def served_run(**decoding: Any) -> tuple[Any, ServedRun]:
    recorder: Any = Recorder(**decoding)
    return recorder, ServedRun(recorder)


def test_a_run_is_asked_with_its_options_and_those_of_the_request() -> None:
    recorder, run = served_run(beam_size=4, max_length=9)
    options = run.options({"batch_size": 7, "threads": 3}, num_hypotheses=2, truncate=True)
    expected = DecodingConfig(beam_size=4, max_length=9, batch_size=7, threads=1)
    assert options == SearchOptions(expected, 2, truncate=True, alignments=False)
    assert run.batch_lines(options) == 7
    # Each has one special token more, and is padded to a multiple of four.
    assert run.lengths(["abc", "abcd", "abcdefg", "abcdefgh"], options) == [1, 2, 2, 3]
    assert [line[0].text for line in run.hypotheses(["a", "b"], ["", "c"], options)] == ["a", "b"]
    assert recorder.asked[0][1] == {
        "decoding": options.decoding,
        "first_line": 1,
        "num_hypotheses": 2,
        "truncate": True,
        "prefixes": ["", "c"],
    }
    assert list(run.stream("ab", options, "c")) == ["a", "b"]
    assert recorder.asked[1][1] == {"decoding": options.decoding, "prefix": "c", "truncate": True}


@pytest.mark.parametrize(("decoding", "beam"), [({"beam_size": 4}, 4), ({"sample": True}, 1)])
def test_the_whole_beam_of_a_run(decoding: dict[str, Any], beam: int) -> None:
    assert served_run(**decoding)[1].beam == beam


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"beam_size": 2}, "`num_hypotheses` must be at most `beam_size`"),
        ({"beam": 2}, "Did you mean `beam_size`"),
        ({"top_k": 2}, "only with `sample: true`"),
    ],
)
def test_wrong_options_of_a_run_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        served_run()[1].options(given, num_hypotheses=3)


def test_alignments_are_those_of_the_aligner(deep_model: Seq2Seq) -> None:
    run = ServedRun(deep_model)
    options = run.options({"beam_size": 2}, num_hypotheses=2, alignments=True)
    ((first, second),) = run.hypotheses(["ab ba"], (), options)
    align = Aligner(deep_model)
    for found in (first, second):
        assert isinstance(found, AlignedHypothesis)
        assert found.alignment == align("ab ba", found)
        assert found.alignment.source_words == ("ab", "ba")


def test_a_model_that_aligns_no_words_refuses_to(tmp_path: Path) -> None:
    run = ServedRun(untrained_writer(tmp_path))
    options = run.options({}, alignments=True)
    with pytest.raises(InputError, match="Only a translation model"):
        run.hypotheses(["0"], (), options)


def test_an_export_is_asked_for_hypotheses_only() -> None:
    recorder: Any = Recorder()
    export = ServedExport(recorder)
    options = export.options({}, num_hypotheses=3)
    assert export.beam == 3
    assert export.hypotheses(["a"], (), options, first_line=2)
    given = {"num_hypotheses": 3, "sample": None, "seed": None, "first_line": 2, "threads": 1}
    assert recorder.asked == [(["a"], given)]
    with pytest.raises(InputError, match="at most 3"):
        export.options({}, num_hypotheses=4)
    with pytest.raises(InputError, match="Received: beam_size, truncate"):
        export.options({"beam_size": 2}, truncate=True)
    with pytest.raises(InputError, match="Received: alignments"):
        export.options({"beam_size": None}, alignments=True)
    with pytest.raises(InputError, match="Did you mean `beam_size`"):
        export.options({"beam_sise": 2})
    with pytest.raises(InputError, match="whole outputs"):
        export.stream("a", options)
    with pytest.raises(InputError, match="prefixes"):
        export.hypotheses(["a"], ["b"], options)
