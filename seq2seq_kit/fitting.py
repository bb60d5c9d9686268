"""What `Seq2Seq.fit` does: from a config to a run folder with a trained model and its results."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq_kit.archive import load_archive
from seq2seq_kit.config import Config, load_config
from seq2seq_kit.data.batches import Batches
from seq2seq_kit.data.encode import LengthLimits
from seq2seq_kit.data.encoded import EncodedData, unigram_perplexity
from seq2seq_kit.data.entries import encode_corpora
from seq2seq_kit.data.sampling import make_sampler
from seq2seq_kit.data.sets import batch_set
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.texts import TextPairs, corpus_texts, validation_texts
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.errors import InputError, TrainingInterrupted
from seq2seq_kit.inference.build import build_generator
from seq2seq_kit.inference.evaluation import TextScores, compare_hypotheses
from seq2seq_kit.inference.generator import Generator, Hypothesis
from seq2seq_kit.insight.run_report import RunReport
from seq2seq_kit.model.memory import check_model
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.special_ids import NUM_SPECIAL_IDS
from seq2seq_kit.text.checks import check_files
from seq2seq_kit.training.advice import advise, describe_cut, describe_outputs
from seq2seq_kit.training.checkpoint import assign_variables
from seq2seq_kit.training.distribution import is_chief, make_strategy
from seq2seq_kit.training.learning_rate import RangeTest, run_range_test
from seq2seq_kit.training.run_folder import RunFolder, save_json
from seq2seq_kit.training.samples import SampleLog
from seq2seq_kit.training.start import (
    RunStart,
    Trial,
    check_folder,
    complete_config,
    locked_by_chief,
    start_run,
    start_trial,
)
from seq2seq_kit.training.step import TrainingSteps
from seq2seq_kit.training.trainer import Trainer

logger = logging.getLogger(__name__)


class FittedRun(NamedTuple):
    """A trained model with everything that belongs to it."""

    model: EncoderDecoder | LanguageModel
    """The network, with its best weights."""
    tokenizers: Tokenizers
    """The tokenizers of both sides."""
    config: Config
    """The resolved config."""
    shortlist: Shortlist | None
    """The lexical shortlist; None for a continuation."""
    generator: Generator
    """The generator that made the outputs for the results."""
    history: list[dict[str, float]]
    """A record for each validation, oldest first."""
    results: dict[str, Any]
    """The table of results, by name."""


def fit_run(
    config: str | Path | Mapping[str, Any] | Config,
    run: RunFolder,
    *,
    callbacks: Sequence[keras.callbacks.Callback],
    overrides: Sequence[str],
    resume: bool,
) -> FittedRun:
    """Trains a model as a config says; arguments and errors as of `Seq2Seq.fit`."""
    name = str(config) if isinstance(config, str | Path) else "config"
    config = load_config(config, overrides)
    if config.training.strategy != "multi_worker":  # Their chief may hold the lock by now.
        run.check_unlocked()
    check_folder(run, resume=resume)
    check_files(config, name)
    config = complete_config(config, run, resume=resume, name=name)
    # The model without its vocabulary: too large a one is refused before a tokenizer is trained.
    check_model(config.model, NUM_SPECIAL_IDS, None, trains=True)
    strategy = make_strategy(config.training.strategy)
    with locked_by_chief(run, strategy):
        check_folder(run, resume=resume)
        return _fill(run, config, strategy, callbacks, resume=resume)


def find_learning_rate(
    config: str | Path | Mapping[str, Any] | Config, *, overrides: Sequence[str] = ()
) -> RangeTest:
    """Runs a learning-rate range test with a config, its data and its first weights.

    Keeps nothing: no run folder is written.

    Args:
        config: As in `Seq2Seq.fit`.
        overrides: As in `load_config`.

    Raises:
        InputError: If the config or the data cannot work.
        RunError: If the loss is not finite from the first step on.
    """
    name = str(config) if isinstance(config, str | Path) else "config"
    config = load_config(config, overrides)
    if config.training.strategy == "multi_worker":
        raise InputError(
            "A learning rate is looked for on one machine. Set `training.strategy` to default."
        )
    check_files(config, name)
    # No run in the current folder is meant: nothing is resumed.
    config = complete_config(config, RunFolder(Path()), resume=False, name=name)
    check_model(config.model, NUM_SPECIAL_IDS, None, trains=True)
    strategy = make_strategy(config.training.strategy)
    trial = start_trial(config, strategy)
    train_set = _train_set(config, trial)
    steps = TrainingSteps(
        trial.model, config.training, strategy, carried_rows=train_set.carried_rows
    )
    return run_range_test(steps, train_set)


def _fill(
    run: RunFolder,
    config: Config,
    strategy: tf.distribute.Strategy,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    resume: bool,
) -> FittedRun:
    """Trains into a folder that this process has locked, and measures the result."""
    start = start_run(run, config, strategy, resume=resume)
    model, tokenizers, shortlist = start.model, start.tokenizers, start.shortlist
    generator = build_generator(config, model, tokenizers, shortlist)
    texts = validation_texts(config, start.data.validation, tokenizers, start.digests)
    report = RunReport(config, run, start, generator, texts)
    train_set = _train_set(config, start)
    steps = TrainingSteps(model, config.training, strategy, carried_rows=train_set.carried_rows)
    trainer = Trainer(
        steps,
        config.training,
        run,
        train_set,
        batch_set(config, start.data.validation, shuffle=False),
        text_metrics=_text_metrics(config, start, generator, texts),
        callbacks=callbacks,
        parts=[
            SampleLog(
                *texts,
                lambda sources: [best.text for best in _greedy(generator, sources)],
                config.training.validation_samples,
            ),
            *report.parts(strategy),
        ],
        run_name=start.run_name,
    )
    if resume:
        trainer.resume()
    try:
        state = trainer.fit()
    except TrainingInterrupted:
        report.write(strategy, trainer.history, "Training was interrupted and can be resumed")
        raise
    logger.info("Training ended: %s.", state.finished)
    results = {
        "ended": state.finished,
        "steps": state.step,
        "minutes": round(state.seconds / 60, 2),
        **({"divergences": state.divergences} if state.divergences else {}),
        **_measure(config, start, run, steps, generator, texts),
    }
    if is_chief(strategy):
        save_json(run.results, results)
    for sentence in advise(config, trainer.history, results, tokenizers.target.vocab_size):
        logger.warning("Advice: %s", sentence)
    report.write(strategy, trainer.history, f"Training ended: {state.finished}", results)
    return FittedRun(model, tokenizers, config, shortlist, generator, trainer.history, results)


def _train_set(config: Config, start: RunStart | Trial) -> Batches:
    """Returns the batches of training."""
    sampler = make_sampler(config, start.tokenizers)
    return batch_set(config, start.data.train, shuffle=True, sampler=sampler)


def _text_metrics(
    config: Config, start: RunStart, generator: Generator, texts: TextPairs
) -> Callable[[], dict[str, float]] | None:
    """Returns the function that measures BLEU and chrF; None if early stopping needs neither."""
    if config.training.early_stopping.metric == "loss":
        return None

    def measure() -> dict[str, float]:
        scores = _compare(config, start, _greedy(generator, texts.sources), texts)
        return {"bleu": scores.bleu, "chrf": scores.chrf}

    return measure


def _measure(
    config: Config,
    start: RunStart,
    run: RunFolder,
    steps: TrainingSteps,
    generator: Generator,
    texts: TextPairs,
) -> dict[str, Any]:
    """Puts the best weights into the model; returns their results."""
    best = load_archive(run.best)
    assign_variables(start.model.trainable_variables, best, "weights")
    loss = best.metadata["val_loss"]
    return {
        "best_step": best.metadata["step"],
        "validation_loss": loss,
        "validation_perplexity": best.metadata["val_perplexity"],
        **_per_character("validation", loss, start.data.validation, start),
        "guessing_perplexity": unigram_perplexity(start.data.validation),
        **_final_results(config, start, steps, generator, texts),
    }


def _final_results(
    config: Config, start: RunStart, steps: TrainingSteps, generator: Generator, texts: TextPairs
) -> dict[str, Any]:
    """Measures the best weights on the test data or, without any, on the validation data."""
    test = config.data.test
    results: dict[str, Any] = {}
    if test is not None:
        limits = LengthLimits.of(config.data)
        encoded = encode_corpora(test, start.tokenizers, limits, start.digests)
        loss = steps.mean_loss(batch_set(config, encoded, shuffle=False))
        results |= {"test_loss": loss, "test_perplexity": math.exp(min(loss, 700.0))}
        results |= _per_character("test", loss, encoded, start)
    if config.task == "translation":
        if test is not None:
            texts = corpus_texts(test)
        outputs = _best(generator, texts.sources)
        scores = _compare(config, start, outputs, texts)
        if scores.cut_outputs:
            limit = config.decoding.max_length
            logger.warning("%s", describe_cut(scores.cut_outputs, len(outputs), limit))
        name = "validation" if test is None else "test"
        described = asdict(scores) | describe_outputs(*texts, [output.text for output in outputs])
        results |= {f"{name}_{key}": value for key, value in described.items()}
    return results


def _per_character(name: str, loss: float, data: EncodedData, start: RunStart) -> dict[str, float]:
    """Returns the perplexity per character of texts without a source; of pairs, nothing.

    It compares across vocabularies. The end of a text counts as a character, as in `perplexity`.
    """
    if data.source is not None:
        return {}
    rows = [data.target[row].tolist() for row in range(len(data))]
    num_tokens = sum(len(row) + 1 for row in rows)
    num_characters = sum(len(text) + 1 for text in start.tokenizers.target.decode(rows))
    perplexity = math.exp(min(loss * num_tokens / num_characters, 700.0))
    return {f"{name}_perplexity_per_character": perplexity}


def _greedy(generator: Generator, sources: Sequence[str]) -> list[Hypothesis]:
    return _best(generator, sources, sample=False, beam_size=1)


def _best(generator: Generator, sources: Sequence[str], **options: Any) -> list[Hypothesis]:
    """Returns the best output for each source; a source that is too long is cut."""
    return [best for best, *_ in generator.hypotheses(sources, truncate=True, **options)]


def _compare(
    config: Config, start: RunStart, outputs: Sequence[Hypothesis], texts: TextPairs
) -> TextScores:
    return compare_hypotheses(
        outputs,
        [[target] for target in texts.targets],
        start.tokenizers.target,
        tokenize=config.data.bleu_tokenize,
        counts_cut=config.task == "translation",
    )
