"""Texts given to `fit` as Python objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_config import PAIRS, config_of

from seq2seq_kit.config import load_config
from seq2seq_kit.data.in_memory import overrides_for
from seq2seq_kit.errors import InputError
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.text.corpus import read_corpus

ODD = [("a\tb", 'quotes " and \\'), ("两行\n文字", "春天"), ("\u2028", "😀"), ("", "x")]


class Table:
    """The part of a pandas `DataFrame` that is used."""

    columns = ("id", "source", "target")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return [{"id": 1, "source": source, "target": target} for source, target in ODD]


GIVEN = {
    "pairs": ODD,
    "lists": [list(pair) for pair in ODD],
    "a generator": (pair for pair in ODD),
    "records": [{"target": target, "source": source, "n": 0} for source, target in ODD],
    "records of two keys": [{"zh": source, "en": target} for source, target in ODD],
    "records within records": [{"translation": {"a": one, "b": two}} for one, two in ODD],
    "a table": Table(),
}


def texts_of(task: str, **given: Any) -> list[tuple[str, str]]:
    """The pairs that a config with these texts reads."""
    config = load_config({"task": task, "data": {"train": "missing.tsv"}}, overrides_for(**given))
    return [(pair.source, pair.target) for pair in read_corpus(config.data.train[0])]


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())
def test_pairs_are_read_as_they_were_given(given: Any) -> None:
    assert texts_of("translation", train=given) == ODD


def test_strings_are_texts_for_continuation() -> None:
    texts = ["春天到了。", " x "]
    assert texts_of("continuation", train=texts) == [("", text) for text in texts]


def test_texts_that_are_not_given_are_those_of_the_config() -> None:
    assert overrides_for(train=None, validation=None, test=None) == []
    (override,) = overrides_for(train=None, validation=ODD)
    assert override.startswith("data.validation=")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("a", "b"), ("a",)], r"`train\[1\]`: expected a source and a target, both strings. Rec"),
        ([("a", None)], r"`train\[0\]`: expected a source and a target.*\('a', None\)"),
        ([{"a": "x", "b": "y", "c": "z"}], r"`train\[0\]`: expected a source and a target"),
        (["a", ("a", "b")], r"`train\[1\]`: expected a string like the first one"),
        ([("a", "b"), "ab"], r"`train\[1\]`: expected a source and a target"),
        (["a\nb"], r"`train\[0\]`: expected a text without line breaks.*separator: blank_line"),
        ([], r"`train`: expected at least one text"),
        ("pairs.tsv", r"`train`: expected pairs .* Received: str. A file is named in the config"),
        (3, r"`train`: expected pairs .* Received: int"),
    ],
)
def test_other_objects_are_refused_by_index(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overrides_for(train=given)


def test_a_run_on_given_pairs_is_resumed_with_the_same_ones(folder: Path) -> None:
    config = config_of(folder, training={"max_steps": 1, "validation_samples": 0})
    run = folder / "given"
    Seq2Seq.fit(config, train=PAIRS, validation=ODD, run_dir=run)
    more = ["training.max_steps=2"]
    with pytest.raises(InputError, match="other texts"):
        Seq2Seq.fit(
            config, train=PAIRS[1:], validation=ODD, run_dir=run, overrides=more, resume=True
        )
    resumed = Seq2Seq.fit(
        config, train=iter(PAIRS), validation=ODD, run_dir=run, overrides=more, resume=True
    )
    assert resumed.results["steps"] == 2
