"""Replays the probes inside an export: whether it is what was made, and answers as it did then."""

import json
from pathlib import Path
from typing import NamedTuple

from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.export.folder import (
    check_all_listed,
    check_digests,
    digests_checked,
    is_litert_export,
    read_metadata_text,
    read_probes,
)
from seq2seq_kit.export.litert import ask_runner
from seq2seq_kit.export.safety import checked_copy
from seq2seq_kit.export.verify import ask_fresh_process, compare_answers


class Replayed(NamedTuple):
    """What was checked of an export."""

    num_probes: int
    """Inputs that were answered as when the export was made."""
    signatures: list[str]
    """The names of its signatures; none of an export for LiteRT."""


def replay_probes(path: Path) -> Replayed:
    """Checks an export: its files by their digests, its graph, its description and its answers.

    Whoever can write the folder could also write another export with its own digests and probes:
    this finds damage and changes, not a forger. It needs no access to the run.

    Args:
        path: The folder.

    Raises:
        InputError: If the folder holds no export, or it is for LiteRT, which is not installed.
        RunError: If a file is missing, damaged, or another one; or the export holds something that
            none needs; or it answers otherwise than when it was made.
    """
    check_all_listed(path)
    probes = read_probes(path)
    if is_litert_export(path):
        check_digests(path)
        compare_answers(ask_runner(path, probes["inputs"]), probes["answers"])
        return Replayed(len(probes["inputs"]), [])
    try:
        with digests_checked(path), checked_copy(path) as folder:
            found = ask_fresh_process(folder, probes["inputs"])
    except InputError as error:  # It was an export once.
        raise RunError(str(error)) from error
    if found.description != read_metadata_text(path):
        raise RunError(
            f"{path / 'metadata.json'} was changed: the graph describes itself otherwise. Copy the "
            f"export again from where it was made, or export the run again."
        )
    expected = [*json.loads(found.description)["signatures"], "describe"]
    if sorted(expected) != found.signatures:
        missing = sorted(set(expected) - set(found.signatures))
        raise RunError(
            f"{path} has other signatures than its description: missing are "
            f"{', '.join(missing) or 'none'}. Export the run again."
        )
    compare_answers(found.answers, probes["answers"])
    return Replayed(len(probes["inputs"]), found.signatures)
