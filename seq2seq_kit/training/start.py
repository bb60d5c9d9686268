"""The start of a fit: whether the run folder may be filled, and everything that training needs.

Most faults are found here, before any training, and before anything is written.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from seq2seq_kit.config import Config, SavedConfig, load_saved_config
from seq2seq_kit.config.init_from import check_sides, take_over
from seq2seq_kit.config.resumption import changed_settings
from seq2seq_kit.config.rules import Choice, choose_defaults, keep_chosen
from seq2seq_kit.data.encoded import EncodedData, target_shares
from seq2seq_kit.data.sets import DataSets, encode_data, learn_shortlist
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers, build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import ConfigError, InputError, RunError
from seq2seq_kit.model.build import build_network
from seq2seq_kit.model.matmul import has_bfloat16
from seq2seq_kit.model.memory import check_training_memory
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.text.statistics import measure_corpora
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training.distribution import is_chief, mean_over_workers
from seq2seq_kit.training.origin import Origin, open_origin, start_from
from seq2seq_kit.training.run_files import changed_data, load_shortlist, load_tokenizers, save_run
from seq2seq_kit.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


class RunStart(NamedTuple):
    """What a training starts with."""

    tokenizers: Tokenizers
    """The tokenizers of both sides."""
    data: DataSets
    """The encoded training and validation data."""
    model: EncoderDecoder | LanguageModel
    """The network, with fresh weights."""
    shortlist: Shortlist | None
    """The lexical shortlist; None for a continuation."""
    run_name: str | None
    """The name of the run, which its checkpoints repeat; None on workers that write nothing."""
    digests: FileDigests
    """The digests of the files that were read."""


class Trial(NamedTuple):
    """What a short training starts with that keeps nothing."""

    data: DataSets
    """The encoded training and validation data."""
    tokenizers: Tokenizers
    """The tokenizers of both sides."""
    model: EncoderDecoder | LanguageModel
    """The network, with the weights that training starts from."""


def check_folder(run: RunFolder, *, resume: bool) -> None:
    """Raises InputError if a folder already holds a run, or holds none to resume."""
    if resume:
        run.check_resumable()
    else:
        run.check_new()


def complete_config(config: Config, run: RunFolder, *, resume: bool, name: str) -> Config:
    """Returns a config with every key: values that it leaves out are chosen to suit the data.

    What belongs to the weights that training starts from is as in their run. The choices are
    logged; a resumed run keeps those that were made when it was started.

    Args:
        config: A config from `load_config`.
        run: The run folder.
        resume: Whether the run in the folder is resumed.
        name: What to call the config in messages.

    Raises:
        ConfigError: If the config contradicts the run that it starts from, or names none.
    """
    if resume:
        config = keep_chosen(config, load_saved_config(run.config).config)
        _warn_if_origin_changed(config, name)
        return config
    taken_over: list[Choice] = []
    origin = open_origin(config, name)
    if origin is not None:
        config, taken_over = take_over(
            config,
            origin.init,
            origin.saved.config,
            origin_name=origin.name,
            sha256=origin.sha256,
            config_name=name,
        )
    config, choices = choose_defaults(config, measure_corpora(config.data, config.tokenizer))
    if origin is not None:
        check_sides(config, origin.saved.config, origin_name=origin.name, config_name=name)
    choices = [*taken_over, *choices]
    if choices:
        listed = "".join(f"\n  {choice}" for choice in choices)
        logger.info(
            "Chosen to suit the data; a key that the config gives stays as it is:%s", listed
        )
    return config


def _warn_if_origin_changed(config: Config, name: str) -> None:
    """Warns if the weights that a resumed run started from are gone or changed."""
    try:
        open_origin(config, name)
    except (ConfigError, RunError) as error:
        logger.warning("%s The run is resumed anyway: it holds its complete state.", error)


@contextmanager
def locked_by_chief(run: RunFolder, strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Has the chief make and lock the run folder; if it cannot, no worker waits for it.

    Raises:
        InputError: On all workers, if the chief cannot.
    """
    with ExitStack() as stack:
        fault: InputError | RunError | None = None
        if is_chief(strategy):
            try:
                stack.enter_context(run.locked())
            except (InputError, RunError) as error:  # Held by another process, or a full disk.
                fault = error
        if mean_over_workers(strategy, float(fault is not None)) > 0:
            raise fault or InputError(
                f"The chief of the workers cannot fill the run folder {run.path}: see what it says."
            )
        yield


def start_run(
    run: RunFolder, config: Config, strategy: tf.distribute.Strategy, *, resume: bool
) -> RunStart:
    """Returns what a training starts with, and writes the run's first files.

    Seeds Keras's random numbers with the config's `seed`.

    Args:
        run: The folder, which this process has locked.
        config: The resolved config.
        strategy: How the work is spread over devices.
        resume: Whether the run in the folder is resumed.

    Raises:
        InputError: If the run to resume was started with other settings, texts or tokenizers, or
            something does not fit into memory.
        RunError: If the run to resume is damaged, or a file cannot be written.
    """
    digests = FileDigests()
    before = _check_same_run(run, config, digests) if resume else None
    origin = None if before else open_origin(config)
    if before:
        tokenizers = load_tokenizers(run, before)
        _check_same_tokenizers(run, config, tokenizers)
    elif origin is not None and origin.init.tokenizer:
        tokenizers = origin.tokenizers
    else:
        tokenizers = build_tokenizers(config, digests)
    logger.info("The run is kept in %s.", run.path)
    if config.training.precision == "bfloat16" and has_bfloat16() is False:
        logger.warning(
            "This processor has no instructions for bfloat16, so training is slower with it: "
            "use training.precision=float32."
        )
    data = encode_data(config, tokenizers, digests)
    model = _first_model(config, tokenizers, data, origin, strategy)
    shortlist = _saved_shortlist(run, before, tokenizers) if before else None
    if shortlist is None:
        shortlist = _learn_shortlist(config, data.train, tokenizers, origin)
    run_name = before.run if before else None
    if is_chief(strategy):
        run_name = save_run(run, config, tokenizers, shortlist, digests, before)
    return RunStart(tokenizers, data, model, shortlist, run_name, digests)


def start_trial(config: Config, strategy: tf.distribute.Strategy) -> Trial:
    """Returns what a short training needs that keeps nothing: no run folder is written.

    Seeds Keras's random numbers with the config's `seed`.

    Args:
        config: The resolved config.
        strategy: How the work is spread over devices.

    Raises:
        InputError: If something does not fit into memory.
    """
    digests = FileDigests()
    origin = open_origin(config)
    if origin is not None and origin.init.tokenizer:
        tokenizers = origin.tokenizers
    else:
        tokenizers = build_tokenizers(config, digests)
    data = encode_data(config, tokenizers, digests)
    return Trial(data, tokenizers, _first_model(config, tokenizers, data, origin, strategy))


def _first_model(
    config: Config,
    tokenizers: Tokenizers,
    data: DataSets,
    origin: Origin | None,
    strategy: tf.distribute.Strategy,
) -> EncoderDecoder | LanguageModel:
    """Returns the network with the weights that training starts from."""
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = build_network(config, tokenizers, is_trained=True)
        # Otherwise the first hundreds of steps learn how frequent each token is.
        shares = target_shares(data.train, tokenizers.target.vocab_size)
        model.output_bias.assign(np.log(shares))
    if origin is not None:
        start_from(origin, model, tokenizers)
    check_training_memory(config, data, tokenizers.target.vocab_size)
    return model


def _learn_shortlist(
    config: Config, train: EncodedData, tokenizers: Tokenizers, origin: Origin | None
) -> Shortlist | None:
    """Returns the shortlist of the training data, joined with that of the run to start from."""
    shortlist = learn_shortlist(config, train, tokenizers)
    if shortlist is None or origin is None or not origin.init.tokenizer:
        return shortlist
    # Few texts for fine-tuning say nothing of most tokens.
    return shortlist if origin.shortlist is None else shortlist.joined(origin.shortlist)


def _check_same_run(run: RunFolder, config: Config, digests: FileDigests) -> SavedConfig:
    """Returns the saved config of the run to resume.

    Contents are compared, not paths: the folder and its data may have been moved.

    Raises:
        InputError: If the run was started with other settings or texts.
    """
    saved = load_saved_config(run.config)
    if changed := changed_settings(saved.config, config):
        listed = "\n".join(f"  {line}" for line in changed)
        raise InputError(
            f"The run in {run.path} was started with other settings:\n{listed}\nPut these back to "
            f"resume it, or train into another folder, from its weights if the config has "
            f"`init_from: {run.path}`."
        )
    if changed := changed_data(run, config, saved, digests):
        listed = "\n".join(f"  {line}" for line in changed)
        raise InputError(
            f"The run in {run.path} was started with other texts:\n{listed}\nRestore those "
            f"texts to resume it, or train into another folder, from its weights if the config has "
            f"`init_from: {run.path}`."
        )
    return saved


def _check_same_tokenizers(run: RunFolder, config: Config, tokenizers: Tokenizers) -> None:
    """Raises InputError if a ready tokenizer is not the one that a run was started with."""
    for side, vocabulary in config.tokenizer.vocabularies():
        if vocabulary.model is None:
            continue
        own = tokenizers.source if side == "source" else tokenizers.target
        # The second as a run of an earlier version keeps it.
        ready = [
            Tokenizer.load(vocabulary.model, form) for form in (vocabulary.normalization, None)
        ]
        if own.fingerprint not in [one.fingerprint for one in ready]:
            raise InputError(
                f"The run in {run.path} was started with another tokenizer than "
                f"{vocabulary.model}. Put that back to resume it, or train into another folder."
            )


def _saved_shortlist(
    run: RunFolder, saved: SavedConfig, tokenizers: Tokenizers
) -> Shortlist | None:
    """Returns the shortlist of a run; None if it must be learned again."""
    try:
        return load_shortlist(run, saved, tokenizers)
    except RunError as error:
        logger.warning("%s It is learned again.", error)
        return None
