"""From a config to the objects of a run: tokenizers, prepared data, batches, the model.

The only place where config sections become arguments.
"""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq_kit.config import Config, CorpusConfig, SavedConfig, VocabularyConfig, save_config
from seq2seq_kit.data.dataset import BatchSet
from seq2seq_kit.data.prepared import (
    CorpusRows,
    PreparedData,
    cache_folder,
    corpus_content,
    prepare,
    read_cached,
    split_holdout,
    write_cached,
)
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.digests import digest, read_verified, text_digest
from seq2seq_kit.errors import ConfigError, RunError
from seq2seq_kit.model.memory import check_batch, check_logits, check_model, check_plan
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel, build_model
from seq2seq_kit.text.corpus import BadRow, read_corpus
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training.history import remove_events
from seq2seq_kit.training.run_folder import RunFolder, json_bytes, read_json, save_json

logger = logging.getLogger(__name__)

# Prompts that are shown while a model of running text trains: so many tokens, and as many after.
_SAMPLE_TOKENS = 32

# Part of the key of a cached tokenizer: raised when the same texts give another one.
_TOKENIZER_VERSION = 2


class Tokenizers(NamedTuple):
    """The tokenizers of both sides; the same object twice if they share one."""

    source: Tokenizer
    target: Tokenizer


def build_tokenizers(config: Config) -> Tokenizers:
    """Returns the tokenizers of a config: trained on its training data, or ready ones.

    One that was trained on the same texts in the same way before comes from the cache.
    """
    settings = config.tokenizer
    if settings.source is None or settings.target is None:
        shared = _build_tokenizer(settings, config.data.train, ("source", "target"))
        return Tokenizers(shared, shared)
    return Tokenizers(
        _build_tokenizer(settings.source, config.data.train, ("source",)),
        _build_tokenizer(settings.target, config.data.train, ("target",)),
    )


def save_run(
    run: RunFolder,
    config: Config,
    tokenizers: Tokenizers,
    shortlist: Shortlist | None,
    before: SavedConfig | None,
) -> str:
    """Writes what a run is given at its start: all that its weights mean nothing without.

    Args:
        run: The folder.
        config: The resolved config.
        tokenizers: Of both sides.
        shortlist: Of a translation.
        before: What was saved when the run was started, if it is resumed.

    Returns:
        What the checkpoints of the run are to say too.
    """
    for side, tokenizer in _by_side(tokenizers).items():
        tokenizer.save(run.tokenizer(side))
    files = {
        run.tokenizer(side).name: tokenizer.fingerprint
        for side, tokenizer in _by_side(tokenizers).items()
    }
    if shortlist is not None:
        shortlist.save(run.shortlist)
        files[run.shortlist.name] = digest(run.shortlist.read_bytes())
    digests = data_digests(config)
    save_json(run.data, digests)
    files[run.data.name] = digest(json_bytes(digests))
    if before is None:  # What a run that was killed early has left is not this one's.
        for path in (run.metrics, run.results):
            path.unlink(missing_ok=True)
        remove_events(run)
    name = before.run if before else None
    if name is None:
        name = digest(json.dumps([files, config.model_dump(mode="json")]).encode())[:16]
    # The config comes last: with it the folder is complete.
    save_config(config, run.config, run=name, files=files)
    return name


def load_tokenizers(run: RunFolder, saved: SavedConfig) -> Tokenizers:
    """Returns the tokenizers of a run.

    Raises:
        RunError: If a file is missing, damaged, or of another run.
    """
    if saved.config.tokenizer.source is None:
        shared = _load_tokenizer(run.tokenizer("shared"), saved)
        return Tokenizers(shared, shared)
    return Tokenizers(
        *(_load_tokenizer(run.tokenizer(side), saved) for side in ("source", "target"))
    )


def _load_tokenizer(path: Path, saved: SavedConfig) -> Tokenizer:
    data = read_verified(path, saved.files.get(path.name))
    try:
        return Tokenizer(data)
    except ConfigError as error:
        raise RunError(
            f"The run folder {path.parent} is damaged. {path}: {error} Restore the file from a "
            f"copy."
        ) from error


def load_shortlist(run: RunFolder, saved: SavedConfig, tokenizers: Tokenizers) -> Shortlist | None:
    """Returns the shortlist of a run; None if it has none, as a continuation or an older run.

    Raises:
        RunError: If the file is damaged or of another run.
    """
    if not run.shortlist.is_file():
        return None
    try:
        read_verified(run.shortlist, saved.files.get(run.shortlist.name))
        shortlist = Shortlist.load(run.shortlist)
        if not shortlist.fits(
            source_vocab_size=tokenizers.source.vocab_size, vocab_size=tokenizers.target.vocab_size
        ):
            raise RunError(f"{run.shortlist} is not of this run's vocabularies.")
    except RunError as error:
        raise RunError(
            f"{error} The run works without {run.shortlist.name}, too; `s2s fit --resume` learns "
            f"it again."
        ) from error
    return shortlist


def _by_side(tokenizers: Tokenizers) -> dict[str, Tokenizer]:
    if tokenizers.source is tokenizers.target:
        return {"shared": tokenizers.target}
    return tokenizers._asdict()


def data_digests(config: Config) -> dict[str, str]:
    """Returns the SHA-256 of each text of the training and validation data, under its config key.

    Raises:
        DataError: If one cannot be read.
    """
    return {key: text_digest(path) for key, path in _learnt_from(config)}


def changed_data(run: RunFolder, config: Config, saved: SavedConfig) -> list[str]:
    """Returns which texts are other ones than when a run was started.

    Raises:
        DataError: If one cannot be read.
        RunError: If that cannot be known any more.
    """
    now = data_digests(config)
    if saved.files.get(run.data.name) == digest(json_bytes(now)):
        return []
    before = read_json(run.data)
    if before.keys() != now.keys():  # Older versions kept paths, and digests of files as they are.
        return _changed_since_older(list(before.values()), config)
    paths = dict(_learnt_from(config))
    return [str(paths[key]) for key in now if now[key] != before[key]]


def _changed_since_older(before: list[str], config: Config) -> list[str]:
    paths = list(dict.fromkeys(path for _, path in _learnt_from(config)))
    if len(paths) != len(before):
        return list(map(str, paths))
    return [
        str(path)
        for path, found in zip(paths, before, strict=True)
        if found not in (text_digest(path), digest(path.read_bytes()))
    ]


def _learnt_from(config: Config) -> Iterator[tuple[str, Path]]:
    """Yields each text of the training and validation data with its config key."""
    for key, corpus in config.data.corpora():
        if not key.startswith("test"):
            for name, path in corpus.named_files.items():
                yield f"data.{key}.{name}", path


def _build_tokenizer(
    settings: VocabularyConfig, corpora: Sequence[CorpusConfig], sides: Sequence[str]
) -> Tokenizer:
    if settings.model is not None:
        return Tokenizer.load(settings.model, settings.normalization)
    made_from = [settings.model_dump(mode="json"), list(sides), list(map(corpus_content, corpora))]
    key = json.dumps([_TOKENIZER_VERSION, *made_from])
    cached = cache_folder() / f"tokenizer-{digest(key.encode())[:32]}"
    if kept := read_cached(cached):
        return Tokenizer(kept)
    logger.info("Training a %s tokenizer of %d pieces.", settings.type, settings.vocab_size)
    tokenizer = Tokenizer.train(
        _texts(corpora, sides),
        type=settings.type,
        vocab_size=settings.vocab_size,
        character_coverage=settings.character_coverage,
        byte_fallback=settings.byte_fallback,
        user_defined_symbols=settings.user_defined_symbols,
        lossless=bool(settings.lossless),
        normalization=settings.normalization,
    )
    write_cached(cached, tokenizer.model_proto, "The trained tokenizer")
    return tokenizer


def _texts(corpora: Sequence[CorpusConfig], sides: Sequence[str]) -> Iterator[str]:
    """Yields the texts of the given sides of all pairs."""
    for pair in chain.from_iterable(map(read_corpus, corpora)):
        yield from filter(None, (getattr(pair, side) for side in sides))


class DataSets(NamedTuple):
    """What a model is trained on and chosen by."""

    train: PreparedData
    validation: PreparedData


def prepare_data(config: Config, tokenizers: Tokenizers) -> DataSets:
    """Returns the encoded training and validation data; holds some out if none are named."""
    train = prepare_corpora(config, config.data.train, tokenizers)
    if config.data.validation is None:
        sets = DataSets(*split_holdout(train, holdout=config.data.holdout, seed=config.seed))
        held_out = sets.validation
        amount, unit = len(held_out), "lines"
        if config.data.is_running_text:
            amount, unit = int(held_out.target.lengths.sum()), "tokens"
        logger.info("Held out for validation: %s %s (data.holdout).", f"{amount:,}", unit)
        return sets
    return DataSets(train, prepare_corpora(config, config.data.validation, tokenizers))


def prepare_corpora(
    config: Config, corpora: Sequence[CorpusConfig], tokenizers: Tokenizers
) -> PreparedData:
    """Returns corpora encoded as the `data` section says."""
    return prepare(
        corpora,
        tokenizers.source,
        tokenizers.target,
        max_source_length=config.data.max_source_length,
        max_target_length=config.data.max_target_length,
        long_lines=config.data.long_lines,
    )


def batch_set(config: Config, prepared: PreparedData, *, shuffle: bool) -> BatchSet:
    """Returns the batches of prepared data as a config cuts them."""
    return BatchSet(
        prepared,
        architecture=config.model.architecture or "encoder_decoder",
        window=config.data.window,
        batch_size=config.training.batch_size,
        batch_unit=config.training.batch_unit,
        seed=config.seed,
        shuffle=shuffle,
    )


def learn_shortlist(
    config: Config, prepared: PreparedData, tokenizers: Tokenizers
) -> Shortlist | None:
    """Returns the lexical shortlist of a translation's training data; None for a continuation."""
    if config.task == "continuation" or prepared.source is None:
        return None
    return Shortlist.learn(
        prepared.source,
        prepared.target,
        source_vocab_size=tokenizers.source.vocab_size,
        vocab_size=tokenizers.target.vocab_size,
        seed=config.seed,
    )


def network(
    config: Config,
    tokenizers: Tokenizers,
    *,
    use_cudnn: str | bool = "auto",
    trains: bool = False,
) -> EncoderDecoder | LanguageModel:
    """Returns the network of a config for its tokenizers, with fresh weights.

    Args:
        config: The config.
        tokenizers: Of both sides.
        use_cudnn: As in `build_model`.
        trains: Whether it is to be trained, which takes more memory.

    Raises:
        InputError: If it does not fit into memory.
    """
    vocab_size = tokenizers.target.vocab_size
    shared = tokenizers.source is tokenizers.target
    source_vocab_size = None if shared else tokenizers.source.vocab_size
    check_model(config.model, vocab_size, source_vocab_size, trains=trains)
    return build_model(config.model, vocab_size, source_vocab_size, use_cudnn=use_cudnn)


def check_training_memory(config: Config, data: DataSets, vocab_size: int) -> None:
    """Raises InputError if an epoch's plan or a largest batch does not fit into memory.

    Args:
        config: The config.
        data: Its training and validation data.
        vocab_size: Target vocabulary.
    """
    check_plan(
        sum(math.ceil(c.weight * _num_examples(config, data.train, c)) for c in data.train.corpora)
    )
    check_batch(config.model, *_largest_batch(batch_set(config, data.train, shuffle=True)))
    rows, _, length = _largest_batch(batch_set(config, data.validation, shuffle=False))
    check_logits(rows, length, vocab_size)


def _num_examples(config: Config, prepared: PreparedData, corpus: CorpusRows) -> int:
    """Returns the rows or windows that a corpus of weight 1 shows in an epoch."""
    if corpus.kind != "text":
        return corpus.stop - corpus.start
    return int(prepared.target.lengths[corpus.start : corpus.stop].sum()) // config.data.window


def _largest_batch(batches: BatchSet) -> tuple[int, int, int]:
    """Returns rows, source length and target length of the batch with the most positions."""
    plan = batches.plan(0)
    rows = plan.stops - plan.starts
    # Attention compares each target position with each source position.
    largest = np.argmax(rows * plan.target_lengths * np.maximum(plan.source_lengths, 1))
    return int(rows[largest]), int(plan.source_lengths[largest]), int(plan.target_lengths[largest])


class Examples(NamedTuple):
    """Texts that show what a model does."""

    sources: list[str]
    """Inputs or prompts."""
    targets: list[str]
    """What the data have for them."""


def validation_examples(prepared: PreparedData, tokenizers: Tokenizers) -> Examples:
    """Returns the texts of a validation set: pairs, or prompts and what follows them."""
    if prepared.source is None:
        return _prompts(prepared, tokenizers.target)
    sources, targets = prepared.source, prepared.target
    rows = range(len(prepared))
    return Examples(
        tokenizers.source.decode([sources[row].tolist() for row in rows]),
        tokenizers.target.decode([targets[row].tolist() for row in rows]),
    )


def guessing_perplexity(prepared: PreparedData) -> float:
    """Returns the perplexity of guessing each target token by how frequent it is in these data.

    A model that does no better knows nothing of what goes before a token.
    """
    targets = prepared.target
    counts = np.bincount(np.concatenate([targets[row] for row in range(len(targets))]))
    shares = np.append(counts[counts > 0], len(targets))  # EOS ends each row
    shares = shares / shares.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def corpus_examples(corpora: Sequence[CorpusConfig]) -> Examples:
    """Returns all pairs of corpora as they stand in the files."""
    pairs = [
        pair
        for pair in chain.from_iterable(map(read_corpus, corpora))
        if not isinstance(pair, BadRow)
    ]
    return Examples([pair.source for pair in pairs], [pair.target for pair in pairs])


def _prompts(prepared: PreparedData, tokenizer: Tokenizer) -> Examples:
    """Cuts lines in two, and running text into stretches of a prompt and what follows it."""
    cuts = []
    for row in range(len(prepared)):
        ids = prepared.target[row]
        stretches = range(0, len(ids), 2 * _SAMPLE_TOKENS)
        for stretch in (ids[first : first + 2 * _SAMPLE_TOKENS].tolist() for first in stretches):
            middle = (len(stretch) + 1) // 2
            cuts.append((stretch[:middle], stretch[middle:]))
    return Examples(*(tokenizer.decode(list(part)) for part in zip(*cuts, strict=True)))
