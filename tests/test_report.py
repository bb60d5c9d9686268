"""The report of a run: a page without links, scripts or markup from texts; its examples."""

import re
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from backwards import Hypothesis

from seq2seq_kit.data.texts import TextPairs
from seq2seq_kit.insight.examples import (
    Attention,
    Example,
    Surprise,
    attention_of,
    collect_examples,
)
from seq2seq_kit.insight.report import LiveReport, ReportFacts, render_report, write_report
from seq2seq_kit.training.parts import TrainingState
from seq2seq_kit.training.run_folder import RunFolder

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq

HISTORY = [
    {
        "step": 10.0 * number,
        "seconds": 60.0 * number,
        "loss": 3.0 / number,
        "val_loss": 3.2 / number,
        "learning_rate": 0.001,
        "tokens_per_second": 5000.0,
    }
    for number in (1, 2, 3)
]
WORDS = ["ein hund", "eine kleine katze", "<b>&", "vier grosse hunde", "fuenf", "sechs alte leute"]


class Translator:
    """A subject that copies its input, but for the last letter of `vier grosse hunde`."""

    model = None

    def hypotheses(self, texts: list[str], **_options: Any) -> list[list[Hypothesis]]:
        return [[Hypothesis(text.replace("hunde", "hxnxx"), 0.0)] for text in texts]

    @property
    def generator(self) -> "Translator":
        return self


def examples(number: int = 2) -> Any:
    return collect_examples(Translator(), TextPairs(WORDS, WORDS), number=number)  # type: ignore[arg-type]


def test_lines_are_ordered_by_quality_and_grouped_by_length() -> None:
    found = examples()
    assert found.num_lines == 6
    assert found.worst[0].source == "vier grosse hunde"
    assert found.worst[0].quality < found.worst[1].quality == 100.0
    assert found.best[0].quality == 100.0
    assert [one.row for one in found.samples] == [0, 3]
    (bucket,) = found.buckets  # Six lines are too few for two groups of five.
    assert (bucket.shortest, bucket.longest, bucket.num_lines) == (4, 17, 6)


def test_texts_without_a_target_are_no_examples() -> None:
    assert collect_examples(Translator(), TextPairs(["a"], [" "])) is None  # type: ignore[arg-type]


def test_attention_is_that_of_the_output(deep_model: "Seq2Seq") -> None:
    found = attention_of(deep_model, Example("abab", "", "", 0.0, 0))  # type: ignore[arg-type]
    assert found is not None
    assert found.weights.shape == (len(found.output_tokens), len(found.source_tokens))
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, atol=1e-5)
    assert len(found.source_tokens) == len(deep_model.source_tokenizer.encode(["abab"])[0]) + 1


@pytest.fixture
def page() -> str:
    found = examples(number=6)
    attention = Attention(("a<", "</s>"), ("b",), np.array([[0.25, 0.75]], np.float32))
    surprise = Surprise(("\u2581the", "\n"), np.array([0.5, 9.0], np.float32))
    return render_report(
        ReportFacts(
            name="my<run>",
            state="Training ended: 3 epochs are done",
            task="translation",
            history=HISTORY,
            advice=["Raise <this>."],
            results={"test BLEU": "12.50"},
            examples=found,
            attentions={found.worst[0].row: attention},
            surprises={found.best[0].row: surprise},
        )
    )


def test_the_page_needs_nothing_else_and_runs_nothing(page: str) -> None:
    assert not re.findall(r"<script|<link|<img|src=|@import|url\((?!#)", page)
    hosts = re.findall(r"https?://[\w./]+", page)
    assert all("w3.org" in host for host in hosts)  # Names of namespaces are no addresses.
    assert page.count("<svg") == 4
    assert "prefers-color-scheme: dark" in page
    assert "#010203" not in page


def test_texts_are_escaped(page: str) -> None:
    for text in ("my&lt;run&gt;", "Raise &lt;this&gt;.", "&lt;b&gt;&amp;", "a&lt;"):
        assert text in page
    assert "<b>&" not in page


def test_the_page_shows_attention_surprise_and_results(page: str) -> None:
    assert "rgba(var(--ink),0.75)" in page
    assert "rgba(var(--ink),0.70)" in page  # A surprise of 9 nats has the full color.
    assert "\u21b5" in page
    assert "12.50" in page
    assert "chrF 100" in page


def test_a_run_without_validations_has_a_page_without_curves() -> None:
    empty = render_report(ReportFacts("run", "Interrupted", "continuation", []))
    assert "<svg" not in empty
    assert "follow when training has ended" in empty


def test_a_report_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> ReportFacts:
        raise KeyError("lost")

    write_report(RunFolder(tmp_path), fail)
    assert caplog.messages == ["report.html was not written (KeyError: 'lost')."]
    assert list(tmp_path.iterdir()) == []


def test_a_running_training_spends_a_hundredth_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100, 3))  # Each report takes three seconds.
    monkeypatch.setattr(
        "seq2seq_kit.insight.report.time", types.SimpleNamespace(monotonic=lambda: next(clock))
    )
    written = []
    monkeypatch.setattr(
        "seq2seq_kit.insight.report.write_report", lambda run, make: written.append(run)
    )
    report = LiveReport(RunFolder(tmp_path), lambda history: ReportFacts("", "", "", history))
    counts = []
    for seconds in (99, 100, 500, 599, 600, 899, 900):
        report.after_validation(TrainingState(seconds=seconds), {}, True)
        counts.append(len(written))
    # The first counts as one second; then each needs 300 more.
    assert counts == [0, 1, 1, 1, 2, 2, 3]


@pytest.mark.slow
def test_fit_leaves_a_report_with_samples_and_attention(translation_run: Any) -> None:
    page = (translation_run.path / "report.html").read_text(encoding="utf-8")
    assert "The best outputs" in page
    assert '<table class="attention">' in page
    assert "Training ended: 10 epochs are done" in page
