"""The folder of an export: its files, their digests, and its metadata.

Knows nothing of TensorFlow, so that `s2s info` prints at once.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from seq2seq_kit import bounds
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.files import why_not_regular

FORMAT_VERSION = 1
"""Of the metadata."""

ExportFormat = Literal["saved_model", "litert"]
"""A TensorFlow SavedModel; or models for LiteRT with a runner."""

LongLines = Literal["error", "truncate", "mark"]
"""What an export does with an input that has more tokens than its model takes."""

_GRAPH = "saved_model.pb"
_LITERT_DECODER = "decoder.tflite"
_METADATA = "metadata.json"
_PROBES = "probes.json"
_CARD = "README.md"
_DIGESTS = "digests.json"
_BYTES_AT_ONCE = 2**23
_WEIGHTS = "variables/variables.data-"

# The card is for people, who may have something to add.
_WITHOUT_DIGEST = {_CARD, _DIGESTS}

_TASKS = {
    "translation": ("Translation", "A line in, a line out."),
    "continuation": ("Continuation", "A prompt in, what follows it out."),
}

_LONG_LINES = {
    "error": "is an error that costs its whole batch",
    "truncate": "is truncated",
    "mark": "gets an empty output with the score -inf; its neighbors get their answers",
}

_CARD_TEXT = """\
# {title} model

{what} Made by seq2seq_kit {version}: a TensorFlow SavedModel that maps strings
to strings. It needs `tensorflow` and `tensorflow_text`. A batch may have any number of inputs; an
answer does not depend on the others.

```python
import tensorflow as tf, tensorflow_text
signatures = tf.saved_model.load("path/to/this/folder").signatures
inputs = tf.constant(["..."])
signatures["serving_default"](inputs=inputs)  # outputs, scores: (batch,)
signatures["n_best"](inputs=inputs)  # outputs, scores, log_probs, is_cut: (batch, {num_hypotheses})
signatures["describe"]()  # description: metadata.json
```

## Signatures

{signatures}

## Limits

- {longest}
- An input that is not UTF-8 {invalid}.
{weights}- An output has at most {max_length} tokens.
- {empty}

## Search

{decoding}

## Model

{model}

## Results

{results}

## Versions

{versions}

## What only you know

Whose texts the model has learned from and under which license, and what it should not be used for:
write it here. `digests.json` covers every file but this one.
"""


def is_export(path: Path) -> bool:
    """Whether a folder holds a SavedModel."""
    return (path / _GRAPH).is_file()


def is_litert_export(path: Path) -> bool:
    """Whether a folder holds an export for LiteRT."""
    return (path / _LITERT_DECODER).is_file()


def check_unused(path: Path) -> None:
    """Raises InputError unless an export can be written to `path`: a new or empty folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(
            f"Expected a new or empty folder to export to. Received: {path}, which exists. Choose "
            f"another one."
        )
    parent = next((parent for parent in path.parents if parent.exists()), path)
    if parent.exists() and not parent.is_dir():
        raise InputError(f"{path} cannot be written: {parent} is not a folder. Choose another one.")


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Writes the metadata of an export: for programs, and as a model card for people.

    Args:
        folder: The export.
        metadata: What `Seq2Seq.export` gathers; no paths, no names of people or machines.
    """
    (folder / _METADATA).write_text(as_json(metadata), encoding="utf-8")
    (folder / _CARD).write_text(_card(metadata), encoding="utf-8")


def as_json(metadata: Mapping[str, Any]) -> str:
    """Returns metadata as the text that the file and the signature `describe` hold."""
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


def read_metadata(folder: Path) -> dict[str, Any]:
    """Returns the metadata of an export; empty for exports made before there was any.

    Raises:
        RunError: If the file is damaged.
    """
    return _read_json(folder / _METADATA)


def read_metadata_text(folder: Path) -> str:
    """Returns the metadata of an export as they are written; "" if there are none."""
    path = folder / _METADATA
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def write_probes(folder: Path, inputs: Sequence[str], answers: Mapping[str, Any]) -> None:
    """Writes the inputs that an export was tried with, and its answers, for `s2s verify`.

    Args:
        folder: The export.
        inputs: No line of the training data: texts made of the vocabulary, and odd ones.
        answers: As in `FreshAnswers`.
    """
    content = as_json({"inputs": list(inputs), "answers": answers})
    (folder / _PROBES).write_text(content, encoding="utf-8")


def read_probes(folder: Path) -> dict[str, Any]:
    """Returns what `write_probes` wrote.

    Raises:
        RunError: If the file is missing or damaged.
    """
    probes = _read_json(folder / _PROBES)
    inputs, answers = probes.get("inputs"), probes.get("answers")
    if not (
        isinstance(inputs, list)
        and isinstance(answers, dict)
        and all(isinstance(outputs, dict) for outputs in answers.values())
    ):
        raise RunError(
            f"{folder / _PROBES} is missing or damaged, so the export cannot be tried: it was "
            f"changed, or made by an earlier version. {_RESTORE}"
        )
    return probes


def check_all_listed(folder: Path) -> None:
    """Returns if the digests cover every file of an export but its card.

    Raises:
        InputError: If the folder holds no export.
        RunError: If a file is missing, or not covered.
    """
    digests = _read_json(folder / _DIGESTS)
    is_for_litert = is_litert_export(folder)
    if not digests and not is_export(folder) and not is_for_litert:
        raise InputError(
            f"Expected the folder of an export. Received: {folder}. Make one with "
            f"`s2s export RUN DIR`."
        )
    found = _files(folder)
    graph = _LITERT_DECODER if is_for_litert or _LITERT_DECODER in digests else _GRAPH
    if missing := sorted({graph, _METADATA, _PROBES, *digests} - found):
        raise RunError(f"{folder / missing[0]} is missing. {_RESTORE}")
    if unlisted := sorted(found - digests.keys()):
        raise RunError(
            f"{folder / unlisted[0]} is not listed in {_DIGESTS}: it was added, or the list was "
            f"changed. {_RESTORE}"
        )


def _files(folder: Path) -> set[str]:
    """Returns the names of the files that have digests."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in _WITHOUT_DIGEST
    }


def write_digests(folder: Path) -> None:
    """Writes the SHA-256 of each file of an export but its card."""
    digests = {name: _digest(folder / name) for name in sorted(_files(folder))}
    (folder / _DIGESTS).write_text(as_json(digests), encoding="utf-8")


def check_digests(folder: Path) -> None:
    """Returns if the files of an export are those that were written.

    An export without digests was made before there were any, and passes.

    Raises:
        RunError: If a file is missing, damaged or another one.
    """
    for name, expected in _read_json(folder / _DIGESTS).items():
        _check_digest(folder / name, expected)


@contextmanager
def digests_checked(folder: Path) -> Iterator[None]:
    """Does what `check_digests` does, for the weights while the body runs, which may load them.

    Hashing 143 MB takes 90 ms, and the body leaves a processor idle. The weights are numbers
    with checksums of TensorFlow's own, so damaged ones can be loaded without harm; once the body
    has ended, they are known to be those that were written. All files must stay as they are
    meanwhile: what was checked is what was loaded.

    Args:
        folder: The export.

    Raises:
        RunError: If a file is missing, damaged or another one, or was replaced meanwhile; also in
            place of what damaged weights made the body raise.
    """
    digests = _read_json(folder / _DIGESTS)
    before = {name: _identity(folder / name) for name in digests}
    for name, expected in digests.items():
        if not name.startswith(_WEIGHTS):
            _check_digest(folder / name, expected)
    with ThreadPoolExecutor() as threads:
        checks = [
            threads.submit(_check_digest, folder / name, expected)
            for name, expected in digests.items()
            if name.startswith(_WEIGHTS)
        ]
        try:
            yield
        finally:
            for check in checks:
                check.result()
    for name, identity in before.items():
        if _identity(folder / name) != identity:
            raise RunError(f"{folder / name} was replaced while it was loaded. Load it again.")


def _check_digest(path: Path, expected: str) -> None:
    if reason := why_not_regular(path):
        raise RunError(f"{path}: {reason}. {_RESTORE}")
    try:
        found = _digest(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}). {_RESTORE}") from error
    if found != expected:
        raise RunError(
            f"{path} is damaged: its contents are not those that {_DIGESTS} lists. {_RESTORE}"
        )


def _identity(path: Path) -> tuple[int, ...]:
    """Returns what changes when a file is replaced or written to; nothing if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_RESTORE = "Copy the export again from where it was made, or export the run again."


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a file; an empty one if there is no such file."""
    if not path.exists():
        return {}
    try:
        if reason := why_not_regular(path, bounds.MAX_RECORD_BYTES):
            raise ValueError(reason)
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no names with values")
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}). {_RESTORE}") from error
    return values


def _digest(path: Path) -> str:
    # Each part that is read and hashed takes the interpreter's lock twice. A thread that loads the
    # model meanwhile gives it up only every 5 ms, which with `hashlib.file_digest`, whose parts
    # have 256 KB, made loading of 143 MB 85 ms slower.
    buffer = memoryview(bytearray(min(_BYTES_AT_ONCE, max(path.stat().st_size, 1))))
    hashed = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hashed.update(buffer[:count])
    return hashed.hexdigest()


def _card(metadata: Mapping[str, Any]) -> str:
    title, what = _TASKS[metadata["task"]]
    empty = {
        "translation": "An empty input has an empty output with the score 0.",
        "continuation": "An empty prompt is continued from the beginning of a text.",
    }
    return _CARD_TEXT.format(
        title=title,
        what=what,
        version=metadata["versions"]["seq2seq_kit"],
        num_hypotheses=metadata["num_hypotheses"],
        signatures=_signatures(metadata["signatures"]),
        longest=_limit(metadata),
        invalid=_LONG_LINES["mark" if metadata["long_lines"] == "mark" else "error"],
        weights="" if metadata["weights"] == "float32" else _EXPANDED,
        max_length=metadata["decoding"]["max_length"],
        empty=empty[metadata["task"]],
        decoding=_list(metadata["decoding"]),
        model=_list(metadata["model"]),
        results=_list(metadata["results"]) or "Not kept with the run.",
        versions=_list(metadata["versions"]),
    )


_EXPANDED = "- The weights are stored in compact form and expanded in memory at the first call.\n"

# What each signature returns, for the card.
_RETURNS = {
    "serving_default": "the best output of each input and the score that the search ranked it by",
    "n_best": "the hypotheses of each input, best first",
    "score": "how likely each target is after its input: log-probabilities in nats, summed and of "
    "each token, its end included",
    "sample": "samples of the outputs; the same seed gives an input the same samples",
    "read": "the state after each prompt; greedy search does not use the seed",
    "continue": "the next text after each state, and the state after it: hand back all tensors but "
    "`outputs`",
}


def _signatures(signatures: Mapping[str, Any]) -> str:
    """Returns a Markdown list of signatures with the types of their inputs and outputs."""

    def types(values: Mapping[str, str]) -> str:
        return ", ".join(f"`{name}` {value}" for name, value in values.items())

    return "\n".join(
        f"- `{name}` returns {_RETURNS[name]}. Inputs: {types(one['inputs'])}. Outputs: "
        f"{types(one['outputs'])}."
        for name, one in signatures.items()
    )


def _limit(metadata: Mapping[str, Any]) -> str:
    """Returns how long an input may be, and what happens to a longer one."""
    if metadata["max_source_length"] is None:
        return "An input may have any number of tokens."
    long_lines = _LONG_LINES[metadata["long_lines"]]
    if metadata["long_lines"] == "truncate":
        kept = {"translation": "beginning", "continuation": "end"}[metadata["task"]]
        long_lines += f": its {kept} is kept, and `is_truncated` of `n_best`, (batch,), is true"
    return (
        f"An input has at most {metadata['max_source_length']} tokens. A longer one {long_lines}."
    )


def _list(values: Mapping[str, Any]) -> str:
    """Returns a Markdown list of names and values."""
    return "\n".join(
        f"- `{name}`: {f'{value:.6g}' if isinstance(value, float) else value}"
        for name, value in values.items()
    )
