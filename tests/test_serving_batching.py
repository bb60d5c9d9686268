"""Which lines share a batch, and in which order batches come."""

from typing import Any

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.serving.batching import Job, LineQueue
from seq2seq_kit.serving.options import SearchOptions

OPTIONS = SearchOptions(DecodingConfig())


def queue(most: int = 3) -> LineQueue:
    return LineQueue(lambda _options: most)


def add(lines: LineQueue, *texts: str, **values: Any) -> Job:
    job = Job(texts, values.pop("options", OPTIONS), **values)
    lines.add(job, [len(text) for text in texts])
    return job


def taken(lines: LineQueue) -> list[str]:
    return [line.text for line in lines.take()]


def test_lines_of_like_length_share_a_batch_the_fullest_first() -> None:
    lines = queue()
    add(lines, "a", "bb", "cc")
    add(lines, "dd")
    assert lines.has_full_batch
    assert taken(lines) == ["bb", "cc", "dd"]
    assert not lines.has_full_batch
    assert taken(lines) == ["a"]
    assert len(lines) == 0


def test_a_batch_has_no_more_lines_than_are_worth_searching_together() -> None:
    lines = queue(most=2)
    add(lines, "a", "b", "c")
    assert taken(lines) == ["a", "b"]
    assert taken(lines) == ["c"]


def test_other_options_and_prefixes_are_in_other_batches() -> None:
    lines = queue()
    add(lines, "a")
    add(lines, "b", options=SearchOptions(DecodingConfig(beam_size=2)))
    add(lines, "c", prefixes=("x",))
    found = [lines.take() for _ in range(3)]
    assert [[(line.text, line.prefix) for line in batch] for batch in found] == [
        [("a", "")],
        [("b", "")],
        [("c", "x")],
    ]


def test_a_rare_length_lets_sixteen_batches_pass_at_most() -> None:
    lines = queue()
    add(lines, "rare")
    passed = 0
    while True:
        add(lines, "a", "b", "c")
        if taken(lines) == ["rare"]:
            break
        passed += 1
    assert passed == 16


def test_a_removed_job_leaves_nothing_behind() -> None:
    lines = queue()
    job = add(lines, "a", "bb")
    other = add(lines, "c")
    lines.remove(job)
    assert len(lines) == 1
    assert lines.arrived == other.arrived
    assert taken(lines) == ["c"]
