"""Pictures show the numbers of a trace, with labels in fonts that have their characters."""

import logging
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib import pyplot as plt

from seq2seq_kit import insight
from seq2seq_kit.errors import InputError
from seq2seq_kit.insight import fonts


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    backend = mpl.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


def make_trace() -> insight.Trace:
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.uniform(-0.9, 0.9, (3, 4)).astype(np.float32)
        for name in ("input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden")
    }
    zeros = np.zeros(4, np.float32)
    layer = insight.LayerTrace(
        ("<s>", "▁a", "\n"), **arrays, initial_cell=zeros, initial_hidden=zeros
    )
    attention = rng.dirichlet(np.ones(2), 3).astype(np.float32)
    tokens = ("<s>", "▁a", "\n"), ("▁a", "\n", "</s>")
    return insight.Trace(("▁b", "</s>"), *tokens, attention, {"decoder_0": layer})


def test_attention_has_a_row_for_each_target_token() -> None:
    seen = make_trace()
    axes = insight.plot_attention(seen)
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), seen.attention)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["▁b", "</s>"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["▁a", "↵", "</s>"]


def test_gates_have_a_row_for_each_unit() -> None:
    seen = make_trace()
    figure = insight.plot_gates(seen, units=[3, 1])
    pictures = [axes for axes in figure.axes if axes.images and axes.get_ylabel()]
    names = [axes.get_ylabel().replace(" ", "_") for axes in pictures]
    assert names == ["input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden"]
    for name, axes in zip(names, pictures, strict=True):
        expected = getattr(seen.layers["decoder_0"], name)[:, [3, 1]].T
        np.testing.assert_array_equal(axes.images[0].get_array(), expected)
        assert [label.get_text() for label in axes.get_yticklabels()] == ["3", "1"]
    labels = [label.get_text() for label in pictures[-1].get_xticklabels()]
    assert labels == ["<s>", "▁a", "↵"]


def test_history_shows_both_losses_on_given_axes() -> None:
    history = [
        {"step": 10, "loss": 3.0, "val_loss": 4.0},
        {"step": 20, "loss": 2.0, "val_loss": 3.5},
    ]
    _, given = plt.subplots()
    axes = insight.plot_history(history, given)
    assert axes is given
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines == {"training": [[10, 3], [20, 2]], "validation": [[10, 4], [20, 3.5]]}


def test_what_cannot_be_drawn_is_refused() -> None:
    seen = make_trace()
    without = insight.Trace((), seen.input_tokens, seen.target_tokens, None, seen.layers)
    with pytest.raises(InputError, match="no attention"):
        insight.plot_attention(without)
    with pytest.raises(InputError, match="one of decoder_0"):
        insight.plot_gates(seen, "decoder_1")
    with pytest.raises(InputError, match="from 0 to 3"):
        insight.plot_gates(seen, units=[4])
    with pytest.raises(InputError, match="from 0 to 3"):
        insight.plot_gates(seen, units=[])
    with pytest.raises(InputError, match="Received: none"):
        insight.plot_history([])


def test_a_font_that_has_the_characters_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"latin": frozenset("abc"), "chinese": frozenset("春天"), "kana": frozenset("カ")}
    monkeypatch.setattr(fonts, "_characters_of", lambda path: have.get(path, have["latin"]))
    monkeypatch.setattr(fonts, "_candidates", lambda: iter([("K", "kana"), ("C", "chinese")]))
    assert fonts.families_for(["abc", "春 天"]) == ["sans-serif", "C"]
    assert fonts.families_for(["abc\n"]) == ["sans-serif"]


def test_a_missing_font_is_a_warning_with_the_characters(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # matplotlib brings these, and one that has a box for every character.
    own = ("DejaVu Sans", "Last Resort High-Efficiency")
    fonts_of = [font for font in font_manager.fontManager.ttflist if font.name in own]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts_of)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    with caplog.at_level(logging.WARNING):
        assert fonts.families_for(["▁a", "春天到了"]) == ["sans-serif"]
    (record,) = caplog.records
    assert "了 到 天 春" in record.getMessage()
    assert "fonts-noto-cjk" in record.getMessage()


def test_a_font_installed_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    serif = str(font_manager.findfont("DejaVu Serif"))
    others = [font for font in font_manager.fontManager.ttflist if font.name != "DejaVu Serif"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", others)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [serif, "/no/such/font.ttf"])
    assert "DejaVu Serif" in dict(fonts._candidates())
    number = len(font_manager.fontManager.ttflist)
    assert "DejaVu Serif" in dict(fonts._candidates())
    assert len(font_manager.fontManager.ttflist) == number
