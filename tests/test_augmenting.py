"""`s2s augment`: which outputs become pairs, the files, and going on after a stop.

A stand-in for the model writes the letters of its input backwards: each letter is a token.
"""

import gzip
import json
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from backwards import Backwards
from sacrebleu import sentence_bleu, sentence_chrf

from seq2seq_kit import augmenting
from seq2seq_kit.cli import main
from seq2seq_kit.config import AugmentationConfig
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.augmentation import Augmenter
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.text.references import SourceWithReferences


class Letters:
    """The outputs of an input: backwards, unless `outputs` says other ones."""

    config = Backwards.config

    def __init__(self) -> None:
        self.tokenizer: Any = types.SimpleNamespace(
            encode=lambda texts: [list(text.strip()) for text in texts], normalize=str.strip
        )
        self.source_tokenizer = self.tokenizer
        self.inputs: Any = types.SimpleNamespace(
            overlong=lambda texts: [(n, len(text)) for n, text in enumerate(texts) if len(text) > 9]
        )
        self.calls: list[Any] = []
        self.outputs: dict[str, list[Hypothesis]] = {}

    def hypotheses(self, texts: Sequence[str], **options: Any) -> Iterator[list[Hypothesis]]:
        self.calls.append(options)
        for text in texts:
            yield self.outputs.get(text, [output(text[::-1])])


def output(text: str, score: float = -1.0, *, is_cut: bool = False) -> Hypothesis:
    ids = tuple(range(len(text) + (not is_cut)))
    return Hypothesis(text, ids, log_prob=score, score=score, is_cut=is_cut)


def lines(*texts: str, references: Sequence[str] = ()) -> list[SourceWithReferences]:
    return [SourceWithReferences(n, text, [*references]) for n, text in enumerate(texts, 1)]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Letters:
    letters = Letters()
    monkeypatch.setattr(augmenting.Seq2Seq, "load", lambda _paths: letters)
    monkeypatch.setattr(augmenting, "identify", lambda runs: [str(run) for run in runs])
    monkeypatch.setattr(augmenting, "_LINES_AT_ONCE", 2)
    return letters


def pairs_of(model: Any, texts: Sequence[str], **options: Any) -> tuple[list[Any], dict[str, int]]:
    """The pairs, and the counts that are not 0."""
    augmenter = Augmenter(model, AugmentationConfig(**options), {})
    pairs = [tuple(pair) for pair in augmenter.pairs(lines(*texts))]
    return pairs, {name: number for name, number in augmenter.counts.items() if number}


@pytest.mark.parametrize(
    ("options", "found", "left_out"),
    [
        ({}, ["ba", "aa", "b", "cccccc"], {}),
        ({"drop_copies": True}, ["ba", "b", "cccccc"], {"copies": 1}),
        ({"max_length_ratio": 2.0}, ["ba", "aa", "b"], {"uneven": 1}),
        ({"max_length_ratio": 3.5}, ["ba", "aa", "b", "cccccc"], {}),
        ({"min_score": -2.5}, ["ba", "aa", "cccccc"], {"unlikely": 1}),
        ({"keep_cut": True}, ["ba", "aa", "b", "cut", "cccccc"], {"cut_outputs": -1}),
    ],
)
def test_what_is_left_out_is_counted(
    options: dict[str, Any], found: list[str], left_out: dict[str, int]
) -> None:
    letters = Letters()
    letters.outputs = {
        "bc": [output("b", score=-3.0)],
        "tuc": [output("cut", is_cut=True)],
        "none": [output(" ")],
        "c": [output("cccccc")],  # 7 tokens with the end, against 2
    }
    texts = ["ab", "", "  ", "aa", "bc", "tuc", "none", "ten letters", "c"]
    pairs, counts = pairs_of(letters, texts, **options)
    assert [target for _, target in pairs] == found
    always = {"empty_inputs": 2, "long_inputs": 1, "empty_outputs": 1, "cut_outputs": 1}
    expected = {name: always.get(name, 0) + left_out.get(name, 0) for name in always | left_out}
    assert counts == {name: number for name, number in expected.items() if number}


def test_a_tag_is_put_before_the_source_in_either_direction(model: Letters) -> None:
    assert pairs_of(model, ["ab"], tag="<bt>")[0] == [("<bt> ab", "ba")]
    assert pairs_of(model, ["ab"], tag="<bt>", back_translation=True)[0] == [("<bt> ba", "ab")]
    with pytest.raises(ValueError, match="tag"):
        AugmentationConfig(tag="two words")


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_the_closest_output_is_the_one_that_sacrebleu_scores_highest(metric: Any) -> None:
    reference = "the cat sat on the mat"
    beam = ["a cat sat on mats", "the cat is on the mat", "the cat sat on the rug", "dogs"]
    letters = Letters()
    letters.outputs = {"s": [output(text) for text in beam]}
    augmenter = Augmenter(letters, AugmentationConfig(keep="closest", metric=metric), {})
    ((_, found),) = augmenter.pairs(lines("s", references=[reference]))
    score = {
        "bleu": lambda text: sentence_bleu(text, [reference]).score,
        "chrf": lambda text: sentence_chrf(text, [reference]).score,
    }[metric]
    assert found == max(beam, key=score) != beam[0]
    assert letters.calls == [{"num_hypotheses": 5, "first_line": 1, "sample": False}]


def test_samples_are_all_kept_but_equal_ones_once() -> None:
    letters = Letters()
    letters.outputs = {"s": [output(text) for text in ("x", "y", "x", "z")]}
    pairs, counts = pairs_of(letters, ["s"], keep="sample", samples=4)
    assert pairs == [("s", "x"), ("s", "y"), ("s", "z")]
    assert counts == {"repeated": 1}
    assert letters.calls == [{"num_hypotheses": 4, "first_line": 1, "sample": True}]


TEXTS = ["ab", "", "春天", "abc", "b a", "xy", "long enough"]
ROWS = "ab\tba\n春天\t天春\nabc\tcba\nb a\ta b\nxy\tyx\n"


def test_the_file_is_a_table_that_training_reads(model: Letters, tmp_path: Path) -> None:
    counts = augmenting.augment(["run"], lines(*TEXTS), tmp_path / "a.tsv", AugmentationConfig())
    assert (tmp_path / "a.tsv").read_text("utf-8") == ROWS
    assert (counts["pairs"], counts["inputs"]) == (5, 7)
    described = list(augmenting.describe_counts(counts))
    assert described[0] == "5 pairs of 7 lines."
    assert "Left out, empty inputs: 1." in described
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_a_table_leaves_out_what_would_shift_its_columns(model: Letters, tmp_path: Path) -> None:
    texts = lines("a\tb", "cd", "e\rf")
    counts = augmenting.augment(["run"], texts, tmp_path / "a.tsv", AugmentationConfig())
    assert (tmp_path / "a.tsv").read_text() == "cd\tdc\n"
    assert counts["unwritable"] == 2
    augmenting.augment(["run"], texts, tmp_path / "a.jsonl.gz", AugmentationConfig())
    with gzip.open(tmp_path / "a.jsonl.gz", "rt", encoding="utf-8") as file:
        assert json.loads(next(file)) == {"source": "a\tb", "target": "b\ta"}
    with pytest.raises(InputError, match=r"\.tsv or a \.jsonl"):
        augmenting.augment(["run"], texts, tmp_path / "a.csv", AugmentationConfig())


class StopAfter:
    """Texts that are interrupted after a number of them."""

    def __init__(self, texts: Sequence[str], number: int) -> None:
        self.texts, self.number = lines(*texts), number

    def __iter__(self) -> Iterator[SourceWithReferences]:
        yield from self.texts[: self.number]
        raise KeyboardInterrupt


@pytest.mark.parametrize("stops_after", [1, 2, 3, 5, 6])
def test_no_line_is_lost_or_doubled_after_an_interruption(
    model: Letters, tmp_path: Path, stops_after: int
) -> None:
    path, options = tmp_path / "a.tsv", AugmentationConfig()
    with pytest.raises(KeyboardInterrupt):
        augmenting.augment(["run"], StopAfter(TEXTS, stops_after), path, options)
    assert not path.exists()
    text = tmp_path / "a.tsv.unfinished" / "text"
    if text.exists():  # A kill may leave what no record speaks of.
        with text.open("ab") as file:
            file.write(b"half a li")
    counts = augmenting.augment(["run"], lines(*TEXTS), path, options)
    assert path.read_text("utf-8") == ROWS
    whole = augmenting.augment(["run"], lines(*TEXTS), tmp_path / "b.tsv", options)
    assert counts == whole
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tsv", "b.tsv"]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["ab", "other", *TEXTS[2:]], {}, "not those that were given now"),
        (TEXTS[:1], {}, "not those that were given now"),
        (TEXTS, {"tag": "<bt>"}, "begun with other options"),
    ],
)
def test_an_unfinished_file_goes_on_only_with_the_same(
    model: Letters, tmp_path: Path, texts: list[str], options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.tsv"
    with pytest.raises(KeyboardInterrupt):
        augmenting.augment(["run"], StopAfter(TEXTS, 4), path, AugmentationConfig())
    with pytest.raises(InputError, match=message):
        augmenting.augment(["run"], lines(*texts), path, AugmentationConfig(**options))
    augmenting.augment(["run"], lines(*TEXTS), path, AugmentationConfig())
    assert path.read_text("utf-8") == ROWS


def test_an_empty_input_is_refused_and_leaves_nothing(model: Letters, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one text"):
        augmenting.augment(["run"], [], tmp_path / "a.tsv", AugmentationConfig())
    assert not list(tmp_path.iterdir())


def test_the_command_reads_lines_pipes_and_references(
    model: Letters, tmp_path: Path, stdin: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output_path = tmp_path / "in.gz", tmp_path / "new" / "a.tsv"
    source.write_bytes(gzip.compress("\n".join(TEXTS).encode()))
    to = ["-o", str(output_path)]
    assert main(["augment", "run", "--source", str(source), *to, "--tag", "<bt>"]) == 0
    assert output_path.read_text("utf-8").startswith("<bt> ab\tba\n<bt> 春天")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "5 pairs of 7 lines." in captured.err
    assert "user_defined_symbols: ['<bt>']" in captured.err
    stdin("\n".join(TEXTS).encode())
    assert main(["augment", "run", "two", "--source", "-", *to]) == 0
    assert output_path.read_text("utf-8") == ROWS
    target = tmp_path / "target"
    target.write_text("ba\n" * len(TEXTS))
    options = ["--target", str(target), "--keep", "closest"]
    assert main(["augment", "run", "--source", str(source), *options, *to]) == 0
    assert output_path.read_text("utf-8") == ROWS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --source, alone or with --target, or --tsv"),
        (["--target", "t"], "either --source"),
        (["--source", "s", "--tsv", "t"], "either --source"),
        (["--source", "s", "--keep", "closest"], "needs references"),
        (["--source", "s", "--samples", "3"], "only with `keep: sample`"),
        (["--source", "s", "--metric", "chrf"], "only with `keep: closest`"),
        (["--source", "s", "--sample"], "follows from --keep, here best"),
        (["--source", "s", "--keep", "sample", "--temperature", "0"], "`temperature` must be"),
        (["--source", "s", "--max-length-ratio", "-1"], "`max_length_ratio` must be"),
        (["--source", "out.tsv"], "--output must be a file other than"),
        (["--source", "s", "-o", "-"], "--output must be a file other than"),
        (["--source", "s", "-o", "pairs.csv"], "written as a .tsv or a .jsonl"),
    ],
)
def test_wrong_usage_is_found_before_a_model_is_loaded(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["augment", "run", "-o", "out.tsv", *arguments]) == 2
    assert message in capsys.readouterr().err
