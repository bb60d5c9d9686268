"""Charts of a run's history as SVG for a page: their texts and axes have the page's color."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

# Stands for the color of the page's text, which depends on light and dark.
_TEXT = "#010203"
_COLORS = ("#3b82d6", "#e0752d", "#2e9e6b")
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 9.0,
    "font.family": ["sans-serif"],
    "text.color": _TEXT,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=_COLORS),
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.0,
}
_SIZE = (4.2, 2.5)  # inches; the page scales it

Record = Mapping[str, float]


def loss_chart(history: Sequence[Record]) -> str:
    """Returns the losses of training and validation over the steps, with the best one marked."""
    best = min(history, key=lambda record: record["val_loss"])
    return _chart(
        history,
        {"training": "loss", "validation": "val_loss"},
        "nats per token",
        mark=(best["step"], best["val_loss"]),
    )


def score_chart(history: Sequence[Record]) -> str:
    """Returns BLEU and chrF of the validations over the steps; empty if none was measured."""
    lines = {
        label: key
        for label, key in (("BLEU", "val_bleu"), ("chrF", "val_chrf"))
        if all(key in record for record in history)
    }
    return _chart(history, lines, "validation, greedy") if lines else ""


def learning_rate_chart(history: Sequence[Record]) -> str:
    """Returns the learning rate over the steps."""
    return _chart(history, {"": "learning_rate"}, "learning rate", from_zero=True)


def speed_chart(history: Sequence[Record]) -> str:
    """Returns the target tokens per second between validations over the steps."""
    return _chart(history, {"": "tokens_per_second"}, "tokens per second", from_zero=True)


def time_chart(history: Sequence[Record]) -> str:
    """Returns the validation loss over the minutes of training."""
    records = [{**record, "minutes": record["seconds"] / 60} for record in history]
    return _chart(records, {"": "val_loss"}, "validation loss", x="minutes")


def _chart(
    history: Sequence[Record],
    lines: Mapping[str, str],
    label: str,
    *,
    x: str = "step",
    from_zero: bool = False,
    mark: tuple[float, float] | None = None,
) -> str:
    """Returns lines over steps or minutes as SVG.

    Args:
        history: The records.
        lines: The key of each line, by its label; an empty label has no legend.
        label: What the vertical axis shows.
        x: The key of the horizontal axis.
        from_zero: Whether the vertical axis begins at 0.
        mark: A point that gets a ring.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        for name, key in lines.items():
            axes.plot(
                [record[x] for record in history],
                [record[key] for record in history],
                marker="o",
                label=name,
            )
        if mark is not None:
            axes.plot(*mark, "o", markersize=9, markerfacecolor="none", color=_COLORS[1])
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
        axes.set_ylabel(label)
        axes.grid(alpha=0.15, color=_TEXT)
        if all(lines):
            axes.legend()
        return _as_inline_svg(figure)


def _as_inline_svg(figure: Figure) -> str:
    """Returns a figure as an SVG element without an XML header, metadata and fixed size."""
    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    head, rest = svg.split(">", maxsplit=1)
    box = re.search(r'viewBox="[^"]*"', head)
    svg = f'<svg {box[0] if box else ""} aria-hidden="true">{rest}'
    return svg.replace(_TEXT, "currentColor").replace("xlink:href", "href")
