"""`s2s compare`: tables, JSON, lines that differ, and runs that cannot be compared."""

import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from backwards import Hypothesis
from small_config import config_of, write_texts

import seq2seq_kit
from seq2seq_kit.cli import main
from seq2seq_kit.config import Config, save_config
from seq2seq_kit.inference.scorer import Score

INPUTS = [f"{letter}{number}" for letter in "abcd" for number in range(5)]


class Model:
    """A model that copies its input, if it is good, or writes `wrong` for the first ten."""

    def __init__(self, config: Config, *, is_good: bool) -> None:
        self.config = config
        self.tokenizer = self.source_tokenizer = types.SimpleNamespace(normalize=str)
        self.inputs = types.SimpleNamespace(overlong=lambda _texts: [])
        self._is_good = is_good

    def hypotheses(self, texts: Sequence[str], **_options: Any) -> list[list[Hypothesis]]:
        wrong = 0 if self._is_good else 10
        return [[Hypothesis("wrong" if n < wrong else text, 0.0)] for n, text in enumerate(texts)]

    def score(self, _sources: Sequence[str], texts: Sequence[str]) -> list[Score]:
        return [Score(-2.0 if self._is_good else -3.0, len(text)) for text in texts]


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes the files of a run and a model for it; `bad` writes wrong outputs."""
    write_texts(tmp_path)
    rows = "".join(f"{text}\t{text}\n" for text in INPUTS)
    (tmp_path / "test.tsv").write_text(rows, encoding="utf-8")
    (tmp_path / "text.txt").write_text("ab\ncd\n\n", encoding="utf-8")
    models: dict[Path, Model] = {}
    monkeypatch.setattr("seq2seq_kit.startup.compute_operations_on_one_thread", lambda: None)
    fake = types.SimpleNamespace(load=lambda path: models[path])
    monkeypatch.setitem(vars(seq2seq_kit), "Seq2Seq", fake)
    monkeypatch.chdir(tmp_path)

    def make(name: str, *, data: dict[str, Any] | None = None, **sections: Any) -> str:
        path = Path(name)
        path.mkdir()
        corpora = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
        config = config_of(
            tmp_path, data={"root": str(tmp_path), **corpora, **(data or {})}, **sections
        )
        save_config(config, path / "config.yaml", run="a", files={})
        (path / "best.npz").touch()
        models[path] = Model(config, is_good=name != "bad")
        return name

    return make


def test_the_better_run_is_better_by_each_metric(
    make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", make_run("bad"), make_run("good"), "--lines", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("run", "BLEU", "95", "%", "p", "chrF", "95", "%", "p", "exact", "match", "95", "%", "p")
    ]
    assert lines[2].split()[0] == "good"
    assert "100.00" in lines[2]
    assert "seed:12345" in lines[3]
    assert lines[-5:] == [
        "line 1",
        "  input: a0",
        "  reference: a0",
        "  bad (chrF 0.0): wrong",
        "  good (chrF 100.0): a0",
    ]


def test_json_has_scores_p_values_and_lines(
    make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", make_run("bad"), make_run("good"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    bad, good = found["scores"]["exact_match"]
    assert (bad["score"], good["score"], bad["p_value"]) == (50.0, 100.0, None)
    assert good["p_value"] < 0.01
    assert [line["line"] for line in found["lines"]["good"]] == [1, 2, 3, 4, 5]


def test_language_models_are_compared_by_their_loss_per_character(
    make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {"train": {"lines": "text.txt"}, "validation": None, "test": None}
    runs = [make_run(name, data=lines, task="continuation") for name in ("bad", "good")]
    assert main(["compare", *runs, "--text", "text.txt", "--json"]) == 0
    bad, good = json.loads(capsys.readouterr().out)["scores"]["loss_per_character"]
    # Three characters a line, its end included; the empty line has no tokens.
    assert (bad["score"], good["score"]) == (1.0, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("other", "arguments", "message"),
    [
        ({"task": "continuation"}, [], "have different tasks: one has translation, two has con"),
        ({"data": {"bleu_tokenize": "char"}}, [], "Give one with --tokenize"),
        ({"data": {"test": "dev.tsv"}}, [], "one and two have different test data"),
        ({"data": {"test": None}}, [], "config of two has no `data.test`. Give test data"),
        ({}, ["--text", "text.txt"], "are compared with --source with --reference, or --tsv"),
        ({}, ["--source", "text.txt"], "Expected --source with --reference"),
        ({}, ["--tsv", "none.tsv"], "none.tsv"),
        ({"tokenizer": {"normalization": "nfkc"}}, [], "(tokenizer.normalization): one has nfc"),
    ],
)
def test_runs_that_cannot_be_compared_are_wrong_usage(
    make_run: Any,
    other: dict[str, Any],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [make_run("one", **({"tokenizer": {}} if "tokenizer" in other else {}))]
    assert main(["compare", *runs, make_run("two", **other), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("runs", [["one"], ["one", "one"], ["one", "none"]])
def test_two_runs_are_needed(
    make_run: Any, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("one")
    assert main(["compare", *runs]) == 2
    assert capsys.readouterr().err.startswith("s2s: error: ")
