"""Advice on poor results: sentences made from the history and the results of a run.

Each rule is a function of numbers, and gives no advice unless it is certain: a run that learned
well gets none.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from seq2seq_kit.config import Config
from seq2seq_kit.text.statistics import measure_texts

# The largest number of sentences; those on causes come first, those on scores last.
_MOST = 2

# The unit of a limit in the reason that `StopAtLimit` gives, with the key to raise.
_LIMITS = {
    "minute": "training.max_minutes",
    "epoch": "training.epochs",
    "step": "training.max_steps",
}

# A loss that fell by this share in the last fifth of a training had not converged.
_STILL_FALLING = 0.02
# Early stopping lets the validation loss rise a little in every run that it ends.
_OVERFITTING_RISE = 0.1
_TRAINING_FALL = 0.1
# A model with a perplexity above this share of the one of guessing by frequency ignores contexts.
_GUESSING = 0.7
# The same as a share of the vocabulary's size, where the perplexity of guessing is unknown.
_GUESSING_OF_VOCABULARY = 0.15
# In random data such as digits, this many tokens can be equally likely without a fault.
_EQUALLY_LIKELY = 20
# Shares of the outputs.
_MANY_EMPTY = 0.05
_MANY_CUT = 0.05
_MANY_COPIES = 0.2
_MANY_UNKNOWN = 0.005
_MANY_TOO_LONG = 0.01
# By how much a validation loss is above the training loss where a model has learned by heart.
_WIDE_GAP = 0.25


def advise(
    config: Config,
    history: Sequence[Mapping[str, float]],
    results: Mapping[str, Any],
    vocab_size: int,
    *,
    most: int = _MOST,
) -> list[str]:
    """Returns at most `most` sentences, each naming the key to change; none for a good run.

    Args:
        config: The config of the run.
        history: A record for each validation, oldest first.
        results: The results of training.
        vocab_size: Size of the target vocabulary.
        most: The largest number of sentences.
    """
    rules: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: _diverged(config, results),
        lambda: _learned_nothing(history, results, vocab_size),
        lambda: _overfits(config, history),
        lambda: _stopped_early(config, history, results),
        lambda: _faulty_outputs(config, results),
        lambda: _unsuitable_scores(config, results),
    )
    return [sentence for rule in rules for sentence in rule()][:most]


def advise_on_data(
    config: Config,
    history: Sequence[Mapping[str, float]],
    *,
    unknown: float,
    too_long: float,
) -> list[str]:
    """Returns sentences on what a report shows beside the scores: lost text, and what would help.

    Args:
        config: The config of the run.
        history: A record for each validation, oldest first.
        unknown: The share of the tokens of the validation data that the vocabulary lacks.
        too_long: The share of the lines of the training data that are skipped or cut for their
            length.
    """
    sentences = []
    if unknown > _MANY_UNKNOWN:
        sentences.append(
            f"{unknown:.1%} of the tokens of the validation data are unknown to the vocabulary, "
            "and cannot be written: set tokenizer.byte_fallback to true, or raise "
            "tokenizer.character_coverage or tokenizer.vocab_size."
        )
    if too_long > _MANY_TOO_LONG:
        sentences.append(
            f"{too_long:.1%} of the training lines are longer than data.max_source_length "
            f"({config.data.max_source_length}) or data.max_target_length "
            f"({config.data.max_target_length}) and were left out or cut: raise these."
        )
    if history:
        best = min(history, key=lambda record: record["val_loss"])
        if best["val_loss"] > (1 + _WIDE_GAP) * best["loss"]:
            sentences.append(
                f"At the best step, the training loss ({best['loss']:.2f}) is far below the "
                f"validation loss ({best['val_loss']:.2f}): more data or a higher model.dropout "
                "will help more than a larger model."
            )
        elif best["val_loss"] < best["loss"] and not config.training.label_smoothing:
            sentences.append(
                f"At the best step, the training loss ({best['loss']:.2f}) is not below the "
                f"validation loss ({best['val_loss']:.2f}): a larger model (model.units), a lower "
                "model.dropout or more time can learn more from the same data."
            )
    return sentences


def describe_cut(num_cut: int, num_outputs: int, max_length: int) -> str:
    """Returns a sentence on outputs that the limit cut, with the option to raise."""
    return (
        f"{num_cut:,} of {num_outputs:,} outputs were cut at {max_length} tokens, before their "
        f"end: raise the limit (decoding.max_length, --max-length), or train longer if they repeat "
        f"themselves."
    )


def describe_outputs(
    sources: Sequence[str], references: Sequence[str], outputs: Sequence[str]
) -> dict[str, float]:
    """Returns numbers that distinguish good outputs from faulty ones, for `results`.

    Args:
        sources: The inputs.
        references: The outputs that the data have for them.
        outputs: The outputs of the model.
    """
    target = measure_texts(references)
    return {
        "empty_outputs": sum(not output for output in outputs),
        "copied_inputs": sum(map(_same, sources, outputs)),
        "copied_inputs_in_references": sum(map(_same, sources, references)),
        "words_per_reference": round(target.words_per_line, 2),
        "references_without_spaces": float(target.is_unspaced),
    }


def _same(one: str, other: str) -> bool:
    return bool(one) and one == other


# ---- The rules, causes before scores


def _diverged(config: Config, results: Mapping[str, Any]) -> Iterator[str]:
    number = results.get("divergences", 0)
    if not number:
        return
    rate = config.training.learning_rate
    times = "once" if number == 1 else f"{number} times"
    yield (
        f"Training diverged {times} and went on with half the learning rate each time: set "
        f"training.learning_rate to {rate * 0.5**number:.2g} (now {rate:g})."
    )


def _learned_nothing(
    history: Sequence[Mapping[str, float]], results: Mapping[str, Any], vocab_size: int
) -> Iterator[str]:
    perplexities = [record["val_perplexity"] for record in history]
    if not perplexities:
        return
    best, guessing = min(perplexities), results.get("guessing_perplexity")
    limit = _GUESSING * guessing if guessing else _GUESSING_OF_VOCABULARY * vocab_size
    if best < max(limit, _EQUALLY_LIKELY):
        return
    steps = int(history[-1]["step"])
    cure = (
        f"{steps:,} steps are too few: train longer (training.max_minutes, training.epochs), or "
        "with smaller sizes (model.units, tokenizer.vocab_size)."
        if steps < 1000
        else "try another training.learning_rate, a tenth or three times of the present one, and "
        "check that the lines of both sides belong together."
    )
    known = (
        f"guessing by frequency has {guessing:,.0f}" if guessing else f"of {vocab_size:,} pieces"
    )
    yield f"The model has learned next to nothing: its perplexity is {best:,.0f} ({known}); {cure}"


def _overfits(config: Config, history: Sequence[Mapping[str, float]]) -> Iterator[str]:
    if len(history) < 3:
        return
    best = min(range(len(history)), key=lambda index: history[index]["val_loss"])
    at_best, last = history[best], history[-1]
    rose = last["val_loss"] > (1 + _OVERFITTING_RISE) * at_best["val_loss"]
    fell = last["loss"] < (1 - _TRAINING_FALL) * at_best["loss"]
    if not (rose and fell):
        return
    dropout = config.model.dropout
    cure = (
        f"raise model.dropout (now {dropout:g})"
        if dropout < 0.5
        else f"lower model.units (now {config.model.units})"
    )
    yield (
        "The model is overfitting (memorizing its training data): from step "
        f"{at_best['step']:.0f} on, the validation loss rose from {at_best['val_loss']:.3g} to "
        f"{last['val_loss']:.3g} while the training loss fell. To learn more from the "
        f"same data, {cure}, or add data."
    )


def _stopped_early(
    config: Config, history: Sequence[Mapping[str, float]], results: Mapping[str, Any]
) -> Iterator[str]:
    ended = str(results.get("ended", ""))
    keys = [
        key
        for unit, key in _LIMITS.items()
        if re.fullmatch(rf"\S+ ({unit} is|{unit}s are) (over|done)", ended)
    ]
    if not keys or not _still_falls(history):
        return
    yield (
        f"Training ended ({ended}) before the validation loss had settled: raise {keys[0]} and "
        "resume with --resume."
    )


def _still_falls(history: Sequence[Mapping[str, float]]) -> bool:
    """Whether the loss still fell in the last fifth of the steps, as far as the history shows."""
    if len(history) < 2:
        return bool(history)  # Fewer than two validations: the loss cannot have converged.
    last = history[-1]
    is_best = last["val_loss"] <= min(record["val_loss"] for record in history)
    before = [record for record in history[:-1] if record["step"] <= 0.8 * last["step"]]
    if not before:  # Two validations near the end show as little as one.
        return is_best
    return is_best and last["val_loss"] < (1 - _STILL_FALLING) * before[-1]["val_loss"]


def _faulty_outputs(config: Config, results: Mapping[str, Any]) -> Iterator[str]:
    name = _scored(results)
    if name is None:
        return
    lines = results[f"{name}_num_lines"]
    cut, empty, copied, right = (
        results.get(f"{name}_{key}", 0) / max(lines, 1)
        for key in ("cut_outputs", "empty_outputs", "copied_inputs", "copied_inputs_in_references")
    )
    if cut > _MANY_CUT:
        yield (
            f"{cut:.0%} of the outputs were cut at the limit: raise decoding.max_length, or train "
            "longer if they repeat themselves."
        )
    if empty > _MANY_EMPTY:
        yield (
            f"{empty:.0%} of the outputs are empty: raise decoding.length_penalty (now "
            f"{config.decoding.length_penalty:g}), or train longer (training.max_minutes)."
        )
    if copied > right + _MANY_COPIES:
        yield (
            f"{copied:.0%} of the outputs repeat their input, where {right:.0%} of the references "
            "do: check data.train (source_columns, target_columns), or train longer."
        )


def _unsuitable_scores(config: Config, results: Mapping[str, Any]) -> Iterator[str]:
    name = _scored(results)
    if name is None or f"{name}_words_per_reference" not in results:
        return
    tokenize = config.data.bleu_tokenize
    if tokenize in ("zh", "char"):
        return
    if results[f"{name}_references_without_spaces"]:
        yield (
            f"BLEU counts words between spaces (data.bleu_tokenize: {tokenize}), and the "
            "references have no spaces: set data.bleu_tokenize to zh for Chinese, else to char."
        )
    elif (
        config.training.early_stopping.metric == "bleu"
        and results[f"{name}_words_per_reference"] < 1.5
    ):
        yield (
            "BLEU counts runs of four words and says nothing of lines of one word: go by exact "
            "match and chrF instead (training.early_stopping.metric: chrf)."
        )


def _scored(results: Mapping[str, Any]) -> str | None:
    """Returns which data the scores in the results are of, if there are any."""
    return next((name for name in ("test", "validation") if f"{name}_bleu" in results), None)
