"""Pictures of attention, gates and learning curves, for notebooks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.insight.fonts import families_for
from seq2seq_kit.insight.tracing import Trace
from seq2seq_kit.training.learning_rate import RangeTest

# The rows of `plot_gates`, with the least value, the largest, and the colors.
_ROWS = {
    "update_gate": (0.0, 1.0, "Blues"),
    "reset_gate": (0.0, 1.0, "Blues"),
    "input_gate": (0.0, 1.0, "Blues"),
    "forget_gate": (0.0, 1.0, "Blues"),
    "output_gate": (0.0, 1.0, "Blues"),
    "candidate": (-1.0, 1.0, "RdBu"),
    "cell": (None, None, "RdBu"),
    "hidden": (-1.0, 1.0, "RdBu"),
}
# Inches of a token; of a picture, at least; and of a unit whose number is shown.
_TOKEN_WIDTH = 0.35
_ROW_HEIGHT = 1.3
_UNIT_HEIGHT = 0.16


def plot_attention(trace: Trace, axes: Axes | None = None) -> Axes:
    """Draws a row for each target token and a column for each source token, dark where it looks.

    Args:
        trace: From `insight.trace`.
        axes: Where to draw; None for a new figure.

    Raises:
        InputError: If the model has no attention.
    """
    if trace.attention is None:
        raise InputError(
            "A language model, or one with `attention: none`, has no attention to show. Use "
            "`plot_gates`, or a model with attention."
        )
    rows, columns = trace.attention.shape
    if axes is None:
        size = (2.0 + _TOKEN_WIDTH * columns, 1.0 + _TOKEN_WIDTH * rows)
        _, axes = plt.subplots(figsize=size, layout="constrained")
    picture = axes.imshow(trace.attention, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _label(axes.set_xticks, trace.source_tokens)
    axes.tick_params(axis="x", labelrotation=90, bottom=False, top=True)
    axes.tick_params(axis="x", labelbottom=False, labeltop=True)
    _label(axes.set_yticks, trace.target_tokens)
    axes.figure.colorbar(picture, ax=axes, label="attention")
    return axes


def plot_gates(
    trace: Trace, layer: str = "decoder_0", *, units: Sequence[int] | None = None
) -> Figure:
    """Draws the gates, the candidate, the cell and the hidden state of a layer over time.

    Each has a picture with a column for each token that the layer reads and a row for each unit.

    Args:
        trace: From `insight.trace`.
        layer: The name of the layer, as in `Trace.layers`.
        units: The units that are drawn; None for all.

    Raises:
        InputError: If there is no such layer or unit.
    """
    if layer not in trace.layers:
        raise InputError(
            f"`layer` must be one of {', '.join(trace.layers)}. Received: {shorten(layer)}."
        )
    shown = trace.layers[layer]
    number = shown.hidden.shape[1]
    rows = {name: row for name, row in _ROWS.items() if getattr(shown, name).size}
    chosen = range(number) if units is None else units
    if not len(chosen) or not all(unit in range(number) for unit in chosen):
        raise InputError(f"`units` must be from 0 to {number - 1}. Received: {shorten(units)}.")
    height = max(_ROW_HEIGHT, 0.0 if units is None else _UNIT_HEIGHT * len(units))
    figure, all_axes = plt.subplots(
        len(rows),
        figsize=(2.5 + _TOKEN_WIDTH * len(shown.tokens), height * len(rows)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (name, (least, largest, colors)) in zip(all_axes[:, 0], rows.items(), strict=True):
        values = getattr(shown, name)[:, list(chosen)].T
        if least is None:
            # Zero is white.
            largest = float(np.abs(values).max(initial=1e-6))
            least = -largest
        picture = axes.imshow(
            values, cmap=colors, vmin=least, vmax=largest, aspect="auto", interpolation="nearest"
        )
        axes.set_ylabel(name.replace("_", " "))
        if units is None:
            axes.set_yticks([])
        else:
            axes.set_yticks(range(len(units)), [str(unit) for unit in units])
        figure.colorbar(picture, ax=axes)
    _label(all_axes[-1, 0].set_xticks, shown.tokens)
    all_axes[-1, 0].tick_params(axis="x", labelrotation=90)
    figure.suptitle(layer)
    return figure


def plot_history(history: Sequence[Mapping[str, float]], axes: Axes | None = None) -> Axes:
    """Draws the losses of training and validation over the steps.

    Args:
        history: The records of a training, as in `Seq2Seq.history`.
        axes: Where to draw; None for a new figure.

    Raises:
        InputError: If there is no record.
    """
    if not history:
        raise InputError("Expected a record of a validation at least. Received: none.")
    if axes is None:
        _, axes = plt.subplots(layout="constrained")
    steps = [record["step"] for record in history]
    for key, label in (("loss", "training"), ("val_loss", "validation")):
        axes.plot(steps, [record[key] for record in history], marker="o", label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.legend()
    return axes


def plot_range_test(found: RangeTest, axes: Axes | None = None) -> Axes:
    """Draws the loss of a learning-rate range test over the learning rate, and its suggestion.

    Args:
        found: What `find_learning_rate` returned.
        axes: Where to draw; None for a new figure.
    """
    if axes is None:
        _, axes = plt.subplots(layout="constrained")
    axes.plot(found.learning_rates, found.losses)
    axes.axvline(found.suggestion, linestyle="--", color="tab:orange")
    axes.annotate(
        f"{found.suggestion:.2g}",
        (found.suggestion, max(found.losses)),
        xytext=(4, -4),
        textcoords="offset points",
        verticalalignment="top",
    )
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("smoothed training loss (nats a token)")
    return axes


def _label(set_ticks: Any, tokens: Sequence[str]) -> None:
    """Labels an axis with tokens, in fonts that have their characters."""
    labels = [token.replace("\n", "\u21b5") for token in tokens]
    set_ticks(range(len(labels)), labels, fontfamily=families_for(labels))
