"""Units that track something in a text: a linear probe with a control, and their effect."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seq2seq_kit import bounds
from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.insight.interventions import Intervention, intervene
from seq2seq_kit.insight.neighbors import import_scikit_learn
from seq2seq_kit.insight.subject import TextModel, lstm_layers, text_model
from seq2seq_kit.insight.tracing import trace
from seq2seq_kit.model.networks import LanguageModel

Feature = Callable[[Sequence[str]], Sequence[float]]

_OPENING, _CLOSING = "\u201c\u300c\u300e\u00ab", "\u201d\u300d\u300f\u00bb"
# Draws of random units to compare with; a part of the lines that no probe is fitted to.
_DRAWS = 5
_HELD_OUT = 0.25


def _in_quotes(tokens: Sequence[str]) -> list[float]:
    depth, found = 0, []
    for token in tokens:
        for character in token:
            depth += (character in _OPENING) - (character in _CLOSING)
        found.append(float(depth > 0))
    return found


def _position(tokens: Sequence[str]) -> list[float]:
    lengths = np.cumsum([len(token.strip("\u2581\n")) for token in tokens])
    return lengths.astype(float).tolist()


FEATURES: Mapping[str, Feature] = {"in_quotes": _in_quotes, "position": _position}
"""What can be probed for by name: whether a quotation is open after a token (marks that tell
opening from closing), and the characters of the line so far."""


@dataclass(frozen=True)
class Probe:
    """How well a layer shows a feature of the text, and which of its units do."""

    score: float
    """On held-out lines: of a feature with two values the accuracy, else R squared."""
    baseline: float
    """The same of the commonest value, or of the mean of the lines that the probe was fitted to."""
    control_score: float
    """The same of a probe for the control task, in which each token type has a random value of the
    feature: what a probe learns by heart."""
    units: tuple[int, ...]
    """The units with the largest weights of the probe, the largest first."""
    loss: float
    """The model's loss on the held-out lines, in nats a token."""
    loss_without_units: float
    """The same with these units switched off."""
    losses_without_random_units: tuple[float, ...]
    """The same with as many other units switched off, drawn at random, several times."""

    @property
    def selectivity(self) -> float:
        """The score less that of the control task: what the layer knows beyond token types."""
        return self.score - self.control_score


def probe(
    model: TextModel | ExportedModel,
    lines: Sequence[str],
    feature: str | Feature,
    *,
    layer: str = "decoder_0",
    num_units: int = 5,
) -> Probe:
    """Fits a linear probe for a feature to the hidden states of a layer, and tests its units.

    Three quarters of the lines are for fitting, the others for all scores. A feature with two
    values is fitted by logistic regression, another one by ridge regression.

    Args:
        model: A `Seq2Seq` or an `ExportedModel` with a language model.
        lines: Texts, each read alone: some hundreds.
        feature: A name in `FEATURES`, or a function from the tokens of a text, with U+2581 for a
            space, to a number for each: what is so after it.
        layer: The name of the layer, as in `Trace.layers`.
        num_units: The units to switch off.

    Raises:
        InputError: If the model has no such layer, there are too few lines, the feature does not
            vary, an option is out of range, or scikit-learn is not installed.

    Example:

        found = insight.probe(writer, lines, "in_quotes")
        found.score, found.selectivity, found.units

    References: Karpathy et al., 2016, https://arxiv.org/abs/1506.02078; Hewitt and Liang, 2019,
    https://arxiv.org/abs/1909.03368
    """
    model = text_model(model)
    compute = _check(model, lines, feature, layer, num_units)
    num_held = max(round(_HELD_OUT * len(lines)), 1)
    fitted, held = (
        _read(model, part, compute, layer) for part in (lines[:-num_held], lines[-num_held:])
    )
    if len(np.unique(fitted.values)) < 2:
        raise InputError(
            "The feature has the same value everywhere in the lines to fit. Pass other lines."
        )
    score, baseline, weights = _fit(fitted, held)
    control_score, _, _ = _fit(*_control_task(fitted, held))
    order = np.argsort(-np.abs(weights) * fitted.states.std(axis=0), kind="stable")
    units = tuple(order[:num_units].tolist())
    draws = np.random.default_rng(0)
    others = [
        tuple(draws.choice(order[num_units:], num_units, replace=False).tolist())
        for _ in range(_DRAWS)
    ]
    loss, without, *random = (
        _loss(model, lines[-num_held:], layer, off) for off in ((), units, *others)
    )
    return Probe(score, baseline, control_score, units, loss, without, tuple(random))


@dataclass(frozen=True)
class _Data:
    """Hidden states with the values of a feature."""

    states: np.ndarray  # float32 (tokens, units)
    values: np.ndarray  # float64 (tokens,)
    tokens: np.ndarray  # str (tokens,)


def _check(
    model: TextModel, lines: Sequence[str], feature: str | Feature, layer: str, num_units: int
) -> Feature:
    """Returns the function of a feature; errors as in `probe`."""
    if not isinstance(model.model, LanguageModel):
        raise InputError(
            "A probe reads the states of a language model (model.architecture: language_model). "
            "Received an encoder-decoder."
        )
    layers = lstm_layers(model.model)
    if layer not in layers:
        raise InputError(f"`layer` must be one of {', '.join(layers)}. Received: {shorten(layer)}.")
    most = min(layers[layer].units // 2, bounds.MAX_WIDTH)
    if not isinstance(num_units, int) or not 1 <= num_units <= most:
        raise InputError(
            f"`num_units` must be from 1 to {most}, half of the units of {layer}. Received: "
            f"{shorten(num_units)}."
        )
    if isinstance(lines, str) or len(lines) < 4 or not all(isinstance(x, str) for x in lines):
        raise InputError(f"`lines` must be four texts or more. Received: {shorten(lines)}.")
    if callable(feature):
        return feature
    if feature not in FEATURES:
        raise InputError(
            f"`feature` must be a function or one of {', '.join(FEATURES)}. Received: "
            f"{shorten(feature)}."
        )
    return FEATURES[feature]


def _read(model: TextModel, lines: Sequence[str], feature: Feature, layer: str) -> _Data:
    """Returns the states after all tokens of some lines, with the values of the feature."""
    states, values = [], []
    names: list[str] = []
    for line in lines:
        seen = trace(model, "", line).layers[layer]
        tokens = seen.tokens[1:]  # Without BOS.
        of_line = np.asarray(feature(tokens), np.float64)
        if of_line.shape != (len(tokens),) or not np.isfinite(of_line).all():
            raise InputError(
                f"A feature must have a finite number for each of the {len(tokens)} tokens. "
                f"Received an array of the shape {of_line.shape}."
            )
        states.append(seen.hidden[1:])
        values.append(of_line)
        names += tokens
    return _Data(np.concatenate(states), np.concatenate(values), np.array(names, object))


def _fit(fitted: _Data, held: _Data) -> tuple[float, float, np.ndarray]:
    """Returns the score of a probe on held-out data, that without a state, and its weights."""
    linear_model = import_scikit_learn("linear_model")
    if len(np.unique(fitted.values)) == 2:
        classifier = linear_model.LogisticRegression(max_iter=1000)
        classifier.fit(fitted.states, fitted.values)
        kinds, counts = np.unique(fitted.values, return_counts=True)
        baseline = float((held.values == kinds[counts.argmax()]).mean())
        return float(classifier.score(held.states, held.values)), baseline, classifier.coef_[0]
    regression = linear_model.Ridge().fit(fitted.states, fitted.values)
    spread = float(((held.values - held.values.mean()) ** 2).mean())
    off = float((held.values.mean() - fitted.values.mean()) ** 2)
    baseline = -off / max(spread, 1e-12)
    return float(regression.score(held.states, held.values)), baseline, regression.coef_


def _control_task(fitted: _Data, held: _Data) -> tuple[_Data, _Data]:
    """Returns the data with a random value for each token type, drawn from those of the feature."""
    draws = np.random.default_rng(0)
    types = sorted(set(fitted.tokens) | set(held.tokens))
    values = dict(zip(types, draws.choice(fitted.values, len(types)), strict=True))
    common = float(np.unique(fitted.values)[0])
    first, second = (np.array([values[token] for token in one.tokens]) for one in (fitted, held))
    if len(np.unique(first)) < 2:  # So rare is the other value: the first token has it.
        first[fitted.tokens == fitted.tokens[0]] = fitted.values.max()
        first[fitted.tokens != fitted.tokens[0]] = common
    return _Data(fitted.states, first, fitted.tokens), _Data(held.states, second, held.tokens)


def _loss(model: TextModel, lines: Sequence[str], layer: str, off: Sequence[int]) -> float:
    """Returns the loss on lines, in nats a token, with some units switched off."""
    changes: list[Any] = []
    if off:
        changes = [Intervention(layer=layer, part="hidden", value=0.0, units=off)]
    with intervene(model, *changes) as altered:
        ids = [[*row, altered.scorer.ends_with] for row in altered.tokenizer.encode(lines)]
        scores = altered.scorer.score_ids([[]] * len(ids), ids)
    return -sum(one.log_prob for one in scores) / sum(map(len, ids))
