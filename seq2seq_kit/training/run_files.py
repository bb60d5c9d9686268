"""What a run folder is given at its start: vocabularies, shortlist, config, digests of the texts.

Its weights mean nothing without them, so each is listed in `config.yaml` with its digest.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from seq2seq_kit.config import Config, SavedConfig, save_config
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import FileDigests, digest, read_verified
from seq2seq_kit.errors import ConfigError, RunError
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training.run_folder import RunFolder, json_bytes, read_json, save_json
from seq2seq_kit.training.tensorboard import remove_events


def save_run(
    run: RunFolder,
    config: Config,
    tokenizers: Tokenizers,
    shortlist: Shortlist | None,
    digests: FileDigests,
    before: SavedConfig | None,
) -> str:
    """Writes the files that a run starts with.

    Args:
        run: The folder.
        config: The resolved config.
        tokenizers: The tokenizers of both sides.
        shortlist: The lexical shortlist; None for a continuation.
        digests: The digests of the texts that were encoded.
        before: The config saved when the run was started, if it is resumed.

    Returns:
        The name of the run, which its checkpoints repeat.
    """
    named = tokenizers.by_name()
    for name, tokenizer in named.items():
        tokenizer.save(run.tokenizer(name))
    files = {run.tokenizer(name).name: one.fingerprint for name, one in named.items()}
    if shortlist is not None:
        shortlist.save(run.shortlist)
        files[run.shortlist.name] = digest(run.shortlist.read_bytes())
    texts = _text_digests(config, digests)
    save_json(run.data, texts)
    files[run.data.name] = digest(json_bytes(texts))
    if before is None:  # Left by a run that was killed early.
        for path in (run.metrics, run.results):
            path.unlink(missing_ok=True)
        remove_events(run)
    run_name = before.run if before else None
    if run_name is None:
        run_name = digest(json.dumps([files, config.model_dump(mode="json")]).encode())[:16]
    # The config comes last: with it the folder is complete.
    save_config(config, run.config, run=run_name, files=files)
    return run_name


def load_tokenizers(run: RunFolder, saved: SavedConfig) -> Tokenizers:
    """Returns the tokenizers of a run.

    Raises:
        RunError: If a file is missing, damaged, or belongs to another run.
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
    """Returns the shortlist of a run, or None: continuations and runs of older versions have none.

    Raises:
        RunError: If the file is damaged or belongs to another run.
    """
    if not run.shortlist.is_file():
        return None
    try:
        read_verified(run.shortlist, saved.files.get(run.shortlist.name))
        shortlist = Shortlist.load(run.shortlist)
        if not shortlist.fits(
            source_vocab_size=tokenizers.source.vocab_size, vocab_size=tokenizers.target.vocab_size
        ):
            raise RunError(f"{run.shortlist} does not fit the vocabularies of this run.")
    except RunError as error:
        raise RunError(
            f"{error} The run works without {run.shortlist.name}, too; `s2s fit --resume` learns "
            f"it again."
        ) from error
    return shortlist


def changed_data(
    run: RunFolder, config: Config, saved: SavedConfig, digests: FileDigests
) -> list[str]:
    """Returns a line for each file whose text is not the one that a run was started with.

    Args:
        run: The folder.
        config: The config to resume with, whose files may have been moved.
        saved: The config saved when the run was started.
        digests: The digests of the files of `config`.

    Raises:
        DataError: If a file cannot be read.
        RunError: If `data.json`, which lists the digests, is needed and damaged.
    """
    now = _text_digests(config, digests)
    if saved.files.get(run.data.name) == digest(json_bytes(now)):
        return []
    before = read_json(run.data)
    if before.keys() != now.keys():  # Older versions kept paths, and digests of files as they are.
        return _changed_since_older(list(before.values()), config, digests)
    trained_on, given = dict(_learned_from(saved.config)), dict(_learned_from(config))
    return [
        f"{key}: {given[key]} has other contents now"
        if trained_on.get(key, given[key]) == given[key]
        else f"{key}: {trained_on[key]} then, {given[key]} with other contents now"
        for key in now
        if now[key] != before[key]
    ]


def _changed_since_older(before: list[str], config: Config, digests: FileDigests) -> list[str]:
    paths = list(dict.fromkeys(path for _, path in _learned_from(config)))
    if len(paths) != len(before):
        return [f"{len(before)} files then, {len(paths)} now"]
    return [
        f"{path} has other contents now"
        for path, found in zip(paths, before, strict=True)
        if found not in (digests.of(path), digest(path.read_bytes()))
    ]


def _text_digests(config: Config, digests: FileDigests) -> dict[str, str]:
    """Returns the digest of each file of the training and validation data under its config key."""
    return {key: digests.of(path) for key, path in _learned_from(config)}


def _learned_from(config: Config) -> Iterator[tuple[str, Path]]:
    """Yields each file of the training and validation data with its config key."""
    for key, corpus in config.data.corpora():
        if not key.startswith("test"):
            for name, path in corpus.named_files.items():
                yield f"data.{key}.{name}", path
