"""A file that is made line by line of an input and takes long: what is done survives a stop.

The text so far is in a folder beside the file, with a record of how far it goes. A process that is
killed leaves both, and the next one cuts the text where the record says and goes on from there.
"""

import gzip
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from seq2seq_kit.atomic import explain_write_errors, try_lock, write_file
from seq2seq_kit.errors import InputError
from seq2seq_kit.files import make_parents, why_not_regular
from seq2seq_kit.text.references import SourceWithReferences
from seq2seq_kit.training.run_folder import read_json, save_json

_logger = logging.getLogger(__name__)


@contextmanager
def open_resumable(path: Path, job: Mapping[str, Any], what: str) -> Iterator["ResumableFile"]:
    """Opens a file that appears at `path` once the body has ended without an error.

    After an error, a signal or a kill, opening it with the same job goes on.

    Args:
        path: The file; gzipped if its name ends with `.gz`. One that exists is replaced.
        job: What the text is made of, in values that JSON can hold: it must be the same to go on.
        what: As in `write_file`.

    Raises:
        InputError: If `path` is no file, another process is writing it, or an unfinished text is
            of another job.
        RunError: If it cannot be written, or the record of an unfinished text is damaged.
    """
    if path.exists() and (reason := why_not_regular(path)):
        raise InputError(f"The output must be a file. Received: {path}: {reason}.")
    make_parents(path)
    folder = path.with_name(f"{path.name}.unfinished")
    with explain_write_errors(folder, what):
        folder.mkdir(exist_ok=True)
        lock = try_lock(folder / "lock")
        if lock is None:
            raise InputError(f"Another process is writing {path}. Wait until it has ended.")
        is_needed = True
        try:
            file = ResumableFile(folder, job)
            try:
                yield file
            except BaseException:
                is_needed = file.num_inputs > 0
                if is_needed:
                    _logger.warning(
                        "%s of %d lines are kept in %s: the same command goes on from there.",
                        what,
                        file.num_inputs,
                        folder,
                    )
                raise
            file.publish(path, what)
            is_needed = False
        finally:
            lock.release()
            if not is_needed:
                shutil.rmtree(folder)


class ResumableFile:
    """The text so far, and how far it goes.

    Args:
        folder: Where both are kept.
        job: As in `open_resumable`, which has the errors, too.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self._folder = folder
        self._text = folder / "text"
        self._record = folder / "progress.json"
        self._job = dict(job)
        self._inputs = hashlib.sha256()
        self._resumes_from = ""
        self._num_bytes = 0
        self.num_inputs = 0
        """Inputs that are done."""
        self.counts: dict[str, int] = {}
        """The counts that were given with the last of them."""
        if self._record.is_file():
            self._read_record()
        self._text.touch()
        os.truncate(self._text, self._num_bytes)

    def _read_record(self) -> None:
        record = read_json(self._record)
        if record["job"] != self._job:
            keys = [*self._job, *record["job"]]
            changed = [k for k in dict.fromkeys(keys) if record["job"].get(k) != self._job.get(k)]
            raise InputError(
                f"{self._folder} holds an unfinished text that was begun with other "
                f"{', '.join(changed)}. Give the same again to go on, or remove that folder to "
                f"start from the beginning."
            )
        if self._text.is_file() and self._text.stat().st_size >= record["bytes"]:
            self._resumes_from = record["inputs_sha256"]
            self.num_inputs, self._num_bytes = record["inputs"], record["bytes"]
            self.counts = record["counts"]

    def skip_done(self, inputs: Iterable[SourceWithReferences]) -> Iterator[SourceWithReferences]:
        """Returns the inputs that are not done.

        Raises:
            InputError: If those that are done were other ones.
        """
        inputs = iter(inputs)
        for line in islice(inputs, self.num_inputs):
            self._hash(line)
        if self.num_inputs and self._inputs.hexdigest() != self._resumes_from:
            raise InputError(
                f"{self._folder} holds an unfinished text of other inputs: its first "
                f"{self.num_inputs} lines are not those that were given now. Give the same inputs "
                f"to go on, or remove that folder to start from the beginning."
            )
        return inputs

    def _hash(self, line: SourceWithReferences) -> None:
        for text in (line.source, *line.references):
            self._inputs.update(text.encode() + b"\0")
        self._inputs.update(b"\n")

    def append(
        self, inputs: Iterable[SourceWithReferences], text: str, counts: Mapping[str, int]
    ) -> None:
        """Adds the text that was made of some inputs; it is on the disk before this returns.

        Args:
            inputs: They follow those that are done.
            text: The text.
            counts: Kept with the text.
        """
        for line in inputs:
            self._hash(line)
            self.num_inputs += 1
        data = text.encode()
        with self._text.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._num_bytes += len(data)
        self.counts = dict(counts)
        save_json(
            self._record,
            {
                "job": self._job,
                "inputs": self.num_inputs,
                "inputs_sha256": self._inputs.hexdigest(),
                "bytes": self._num_bytes,
                "counts": self.counts,
            },
        )

    def publish(self, path: Path, what: str) -> None:
        """Writes the whole text to its place."""
        with self._text.open("rb") as text, write_file(path, what) as file:
            if path.suffix == ".gz":
                # Without name and time, so that equal texts give equal files.
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                    shutil.copyfileobj(text, packed)
            else:
                shutil.copyfileobj(text, file)
