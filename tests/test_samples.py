"""Which examples are shown at a validation, and how."""

from collections.abc import Sequence

import pytest

from seq2seq_kit.training.parts import TrainingState
from seq2seq_kit.training.samples import SampleLog


def shout(sources: Sequence[str]) -> list[str]:
    return [source.upper() for source in sources]


def shown(
    log: pytest.LogCaptureFixture, sources: list[str], number: int, times: int = 1
) -> list[str]:
    log.set_level("INFO")
    part = SampleLog(sources, [source[::-1] for source in sources], shout, number)
    for _ in range(times):
        part.after_validation(TrainingState(), {}, True)
    return [record.getMessage() for record in log.records]


def test_examples_are_spread_over_all_and_the_same_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sources = [f"a{index}" for index in range(10)]
    expected = [
        f"  in:     a{index}\n  greedy: A{index}\n  want:   {index}a" for index in (0, 3, 6)
    ]
    assert shown(caplog, sources, 3, times=2) == 2 * expected


@pytest.mark.parametrize(("available", "wanted", "expected"), [(2, 5, 2), (2, 0, 0), (0, 3, 0)])
def test_no_more_examples_are_shown_than_there_are_or_are_wanted(
    caplog: pytest.LogCaptureFixture, available: int, wanted: int, expected: int
) -> None:
    assert len(shown(caplog, ["a"] * available, wanted)) == expected


def test_an_example_is_three_lines_of_limited_length(caplog: pytest.LogCaptureFixture) -> None:
    (message,) = shown(caplog, ["a\nb" + 300 * "c"], 1)
    lines = message.split("\n")
    assert len(lines) == 3
    assert lines[0] == "  in:     a\\nb" + 236 * "c" + "…"
