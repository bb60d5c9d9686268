"""The report of a run: one HTML page that needs nothing else, with curves, examples and advice."""

import html
import logging
import math
import string
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.insight import charts
from seq2seq_kit.insight.examples import (
    Attention,
    Bucket,
    Example,
    Examples,
    Subject,
    Surprise,
    attention_of,
    surprise_of,
)
from seq2seq_kit.training.parts import TrainingPart, TrainingState
from seq2seq_kit.training.records import Record, read_metrics
from seq2seq_kit.training.run_folder import RunFolder

_logger = logging.getLogger(__name__)

# Of the time of training, for a report that is written again after a validation.
_SHARE_OF_TIME = 0.01
# The surprise, in nats, at which a token has its full color: one of a thousand.
_FULL_SURPRISE = 7.0
# Larger pictures of attention are hard to read.
_MOST_ROWS, _MOST_COLUMNS = 40, 60

# Headings of the best and the worst lines, and what the colors under them mean.
_WRITTEN = (
    "The best outputs",
    "The worst outputs",
    "Under attention, a row for each token of the output shows at which tokens of the input the "
    "decoder looked when it wrote that token: the stronger the color, the more.",
)
_SCORED = (
    "What the model expected most",
    "What the model expected least",
    "The stronger the color of a token, the less the model expected it after all tokens before.",
)


@dataclass(frozen=True)
class ReportFacts:
    """What a report shows."""

    name: str
    """The name of the run."""
    state: str
    """Whether and why training ended, as a clause."""
    task: str
    """"translation" or "continuation"."""
    history: Sequence[Record]
    """A record for each validation, oldest first."""
    advice: Sequence[str] = ()
    """What to try next, in sentences."""
    counts: Mapping[str, str] = field(default_factory=dict)
    """Numbers for the head of the page, by their label."""
    results: Mapping[str, str] = field(default_factory=dict)
    """The table of results, by their label."""
    examples: Examples | None = None
    """Lines with their outputs; None while training runs."""
    attentions: Mapping[int, Attention] = field(default_factory=dict)
    """Where the decoder looked, by `Example.row`."""
    surprises: Mapping[int, Surprise] = field(default_factory=dict)
    """How little a language model expected each token, by `Example.row`."""


def explain_examples(
    subject: Subject, examples: Examples
) -> tuple[dict[int, Attention], dict[int, Surprise]]:
    """Returns the attention, or of a language model the surprise, of the best and worst lines."""
    rows = {example.row: example for example in (*examples.best, *examples.worst)}
    if examples.scores_text:
        return {}, {row: surprise_of(subject, example) for row, example in rows.items()}
    found = {row: attention_of(subject, example) for row, example in rows.items()}
    return {row: attention for row, attention in found.items() if attention is not None}, {}


def render_report(facts: ReportFacts) -> str:
    """Returns the page, HTML. It loads nothing from anywhere and runs no script."""
    template = resources.files("seq2seq_kit.insight").joinpath("report.html")
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        title=f"{_escape(facts.name)}: report", body="\n".join(_sections(facts))
    )


def write_report(run: RunFolder, make: Callable[[], ReportFacts]) -> None:
    """Writes the report into a run folder; whatever fails is a warning, for the run is whole.

    Args:
        run: The folder.
        make: Returns what the report shows.
    """
    try:
        write_bytes(run.report, render_report(make()).encode(), "The report")
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        _logger.warning(
            "%s was not written (%s: %s).", run.report.name, type(error).__name__, first
        )


class LiveReport(TrainingPart):
    """Writes the report again after a validation, as long as that takes little of the time.

    Args:
        run: The run folder.
        make: Returns what the report shows, from the history.
    """

    def __init__(self, run: RunFolder, make: Callable[[Sequence[Record]], ReportFacts]) -> None:
        self._run = run
        self._make = make
        self._seconds = 0.0
        self._last = 1.0  # Of the last report; the first one loads matplotlib.

    def after_validation(
        self, state: TrainingState, record: dict[str, float], counts: bool
    ) -> None:
        if self._seconds + self._last > _SHARE_OF_TIME * state.seconds:
            return
        began = time.monotonic()
        write_report(self._run, lambda: self._make(read_metrics(self._run)))
        self._last = time.monotonic() - began
        self._seconds += self._last


def _sections(facts: ReportFacts) -> Iterator[str]:
    yield f"<h1>{_escape(facts.name)}</h1>"
    yield f'<p class="soft">{_escape(facts.task.capitalize())}. {_escape(facts.state)}.</p>'
    numbers = (
        f"<li><b>{_escape(value)}</b><span>{_escape(label)}</span></li>"
        for label, value in facts.counts.items()
    )
    yield f'<ul class="facts">{"".join(numbers)}</ul>'
    if facts.advice:
        items = "".join(f"<li>{_escape(sentence)}</li>" for sentence in facts.advice)
        yield f'<h2>What to try next</h2><ul class="advice">{items}</ul>'
    if facts.history:
        yield _curves(facts.history)
    if facts.results:
        yield f"<h2>Results</h2>{_table(list(map(list, facts.results.items())))}"
    if facts.examples is None:
        yield '<p class="soft">Examples and quality by length follow when training has ended.</p>'
        return
    yield _lengths(facts.examples)
    yield "<h2>Samples</h2>"
    for example in facts.examples.samples:
        yield _example(example, facts)
    best, worst, legend = _SCORED if facts.examples.scores_text else _WRITTEN
    for heading, lines in ((best, facts.examples.best), (worst, facts.examples.worst)):
        yield f'<h2>{heading}</h2><p class="soft">{legend}</p>'
        for example in lines:
            yield _example(example, facts, explained=True)


def _curves(history: Sequence[Record]) -> str:
    best = min(history, key=lambda record: record["val_loss"])
    figures = [
        (
            f"Loss. The best validation is that of step {best['step']:,.0f}, with "
            f"{best['val_loss']:.3f}.",
            charts.loss_chart(history),
        ),
        ("BLEU and chrF of the validation data", charts.score_chart(history)),
        ("Validation loss over the minutes of training", charts.time_chart(history)),
        ("Learning rate", charts.learning_rate_chart(history)),
        ("Speed of training", charts.speed_chart(history)),
    ]
    shown = "".join(
        f'<figure role="img" aria-label="{_escape(caption)}">'
        f"<figcaption>{_escape(caption)}</figcaption>{svg}</figure>"
        for caption, svg in figures
        if svg
    )
    return f'<h2>Learning curves</h2><div class="charts">{shown}</div>'


def _lengths(examples: Examples) -> str:
    """Returns the quality of short and long lines as a table with bars."""
    most = max(bucket.quality for bucket in examples.buckets) or 1.0
    if examples.scores_text:
        heading, unit = "characters of the text", "nats per character (lower is better)"
    else:
        heading, unit = "characters of the input", "chrF (higher is better)"
    rows = "".join(_bucket_row(bucket, most) for bucket in examples.buckets)
    return (
        f"<h2>Quality by length</h2><p class='soft'>Of {examples.num_lines:,} validation lines."
        f'</p><div class="wide"><table class="numbers"><thead><tr><th>{heading}</th><th>lines</th>'
        f"<th>{unit}</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _bucket_row(bucket: Bucket, most: float) -> str:
    span = f"{bucket.shortest:,}"
    if bucket.longest > bucket.shortest:
        span += f" to {bucket.longest:,}"
    width = 12 * max(bucket.quality, 0.0) / most
    return (
        f"<tr><th>{span}</th><td>{bucket.num_lines:,}</td><td>"
        f'<span class="bar" style="width:{width:.2f}rem"></span> {bucket.quality:.3g}</td></tr>'
    )


def _example(example: Example, facts: ReportFacts, *, explained: bool = False) -> str:
    scores_text = facts.examples is not None and facts.examples.scores_text
    lines = {"prompt" if facts.task == "continuation" else "input": example.source}
    if example.output or not scores_text:
        lines["output"] = example.output
    lines["data have" if scores_text else "reference"] = example.target
    shown = "".join(f"<dt>{key}</dt><dd>{_escape(text)}</dd>" for key, text in lines.items())
    unit = "nats per character" if scores_text else "chrF"
    score = f"{example.quality:.2f} {unit}" if scores_text else f"{unit} {example.quality:.0f}"
    more = ""
    if explained and (attention := facts.attentions.get(example.row)) is not None:
        more = f"<details><summary>attention</summary>{_attention(attention)}</details>"
    if explained and (surprise := facts.surprises.get(example.row)) is not None:
        more = _surprise(surprise)
    return f'<div class="example"><span class="score">{score}</span><dl>{shown}</dl>{more}</div>'


def _attention(attention: Attention) -> str:
    weights = attention.weights[:_MOST_ROWS, :_MOST_COLUMNS]
    sources = attention.source_tokens[:_MOST_COLUMNS]
    head = "".join(f"<th>{_escape(token)}</th>" for token in sources)
    rows = "".join(
        f"<tr><th>{_escape(token)}</th>{''.join(map(_cell, row, sources))}</tr>"
        for token, row in zip(attention.output_tokens, weights, strict=False)
    )
    return (
        f'<div class="wide"><table class="attention"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(weight: float, token: str) -> str:
    return (
        f'<td style="background:rgba(var(--ink),{weight:.2f})" '
        f'title="{_escape(token)}: {weight:.2f}"></td>'
    )


def _surprise(surprise: Surprise) -> str:
    tokens = "".join(
        f'<span style="background:rgba(var(--ink),{_strength(nats):.2f})" '
        f'title="{nats:.2f} nats, 1 of {math.exp(min(nats, 30)):,.0f}">{_visible(token)}</span>'
        for token, nats in zip(surprise.tokens, surprise.nats.tolist(), strict=True)
    )
    return f'<div class="tokens">{tokens}</div>'


def _strength(nats: float) -> float:
    """Returns how strong the color of a token is, so that its text stays legible."""
    return 0.7 * min(max(nats, 0.0) / _FULL_SURPRISE, 1.0)


def _visible(token: str) -> str:
    """Returns a token as it is read: spaces as such, and a sign for the end of a line."""
    return _escape(token.replace("\u2581", " ").replace("\n", "\u21b5"))


def _table(rows: Sequence[Sequence[str]]) -> str:
    body = "".join(
        f"<tr><th>{_escape(first)}</th>{''.join(f'<td>{_escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f'<div class="wide"><table class="numbers"><tbody>{body}</tbody></table></div>'


def _escape(text: Any) -> str:
    return html.escape(str(text))
