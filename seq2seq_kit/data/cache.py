"""The cache folder: results that take long to compute, found again by the contents of the texts.

Knows where the folder is and how to find out that a file is damaged, but not what the files hold.
"""

import logging
import os
from pathlib import Path
from typing import Any

from seq2seq_kit import bounds
from seq2seq_kit.atomic import remove_leftovers, remove_older_leftovers, write_bytes
from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.config.sections import TEXT_KEYS
from seq2seq_kit.digests import FileDigests, digest
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.files import user_path, why_not_regular

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Returns the cache folder, which is created if it does not exist.

    It is S2S_CACHE_DIR, else a folder in XDG_CACHE_HOME, else one in ~/.cache.

    Raises:
        InputError: If there is no home folder, or S2S_CACHE_DIR names one that does not exist.
        RunError: If it cannot be written to.
    """
    if chosen := os.environ.get("S2S_CACHE_DIR"):
        folder = user_path(chosen)
    elif home := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(home, "seq2seq_kit")
    else:
        try:
            folder = Path.home() / ".cache" / "seq2seq_kit"
        except RuntimeError as error:
            raise InputError(
                "Encoded data and tokenizers are cached in the home folder's .cache, but this user "
                "has no home folder (HOME is not set). Set S2S_CACHE_DIR to a folder."
            ) from error
    problem = ""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)  # It holds the user's texts, encoded.
        remove_leftovers(folder)
        remove_older_leftovers(folder)
    except OSError as error:
        problem = error.strerror or str(error)
    if problem or not os.access(folder, os.W_OK):
        raise RunError(
            f"Encoded data and tokenizers are cached in {folder}, which cannot be written to "
            f"({problem or 'no permission'}). Set S2S_CACHE_DIR to another folder."
        )
    return folder


def describe_corpus(corpus: CorpusConfig, digests: FileDigests) -> dict[str, Any]:
    """Describes everything that the texts of a corpus depend on, for the keys of the cache.

    Args:
        corpus: The corpus.
        digests: The digests of its files.

    Returns:
        The options that choose texts, and each file's digest instead of its path, fit for JSON.
        The weight is not included.

    Raises:
        DataError: If a file cannot be read.
    """
    found = {key: digests.of(path) for key, path in corpus.named_files.items()}
    return corpus.model_dump(mode="json", exclude={"weight", *TEXT_KEYS}) | found


def write_cached(path: Path, data: bytes, what: str) -> None:
    """Writes a file of the cache folder with its digest, for `read_cached`."""
    sealed = digest(data).encode() + b"\n" + data
    write_bytes(path, sealed, what, private=True, setting="S2S_CACHE_DIR")


def read_cached(path: Path) -> bytes | None:
    """Returns the data that `write_cached` wrote; None if they are missing or damaged."""
    if not path.exists():
        return None
    if reason := why_not_regular(path, bounds.MAX_ARRAY_BYTES):
        _logger.warning("%s cannot be read (%s); making it again.", path, reason)
        return None
    try:
        found, _, data = path.read_bytes().partition(b"\n")
    except OSError as error:
        _logger.warning("%s cannot be read (%s); making it again.", path, error.strerror)
        return None
    if found.decode("latin-1") == digest(data):
        return data
    _logger.warning("%s is damaged; making it again.", path)
    return None
