"""The signatures of a loaded export, called with texts or plain values; their errors explained."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.errors import InputError, shorten
from seq2seq_kit.export.codec import NOT_TEXT, TOO_LONG
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.parallel import map_ahead, num_threads

# Lines handed to the graph at once. The number of threads does not change it: with a shortlist, the
# last bits of a score may depend on the lines beside it.
_LINES_AT_ONCE = 1024


class Signatures:
    """The signatures of an export.

    Args:
        signatures: Functions of the loaded SavedModel, by name.
    """

    def __init__(self, signatures: Mapping[str, Any]) -> None:
        self._signatures = signatures
        self._is_optimized = False

    def __contains__(self, name: str) -> bool:
        return name in self._signatures

    def has_output(self, name: str, output: str) -> bool:
        """Whether there is a signature that has an output of a name."""
        return name in self and output in self._signatures[name].structured_outputs

    def search(
        self, name: str, texts: Sequence[str], *, threads: int, first_line: int, **others: tf.Tensor
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields what a signature gives for texts, some of them at once.

        Args:
            name: The signature.
            texts: Its `inputs`.
            threads: As in `DecodingConfig`.
            first_line: The line number of the first text.
            **others: Its other inputs.
        """
        starts = range(0, len(texts), _LINES_AT_ONCE)
        threads = num_threads(threads, len(starts))
        if threads > 1 and not self._is_optimized:
            # TensorFlow optimizes a graph in its first calls: threads would each do it in theirs.
            self.ask(name, [""], first_line, **others)
            self._is_optimized = True

        def search(start: int) -> dict[str, np.ndarray]:
            some = texts[start : start + _LINES_AT_ONCE]
            return self.ask(name, some, first_line + start, **others)

        return map_ahead(search, ((start, 0.0) for start in starts), threads=threads)

    def ask(
        self, name: str, texts: Sequence[str], first_line: int, **others: tf.Tensor
    ) -> dict[str, np.ndarray]:
        """Returns what a signature gives for texts, as arrays.

        Args:
            name: The signature.
            texts: Its `inputs`.
            first_line: The line number of the first one.
            **others: Its other inputs.
        """
        check_texts(texts, first_line)
        inputs = tf.constant(list(texts), tf.string)
        try:
            return self.run(name, inputs=inputs, **others)
        except tf.errors.InvalidArgumentError as error:
            raise _explain(error, first_line) or error from error

    def call(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns what a signature gives for inputs that are lists and numbers, as in JSON.

        Args:
            name: The signature, such as "score", "read" or "continue".
            inputs: Its inputs by name.

        Raises:
            InputError: If the export has no such signature, or an input is missing or of another
                type, or the signature refuses it.
        """
        specs = self._named(name).structured_input_signature[1]
        if inputs.keys() != specs.keys():
            raise InputError(
                f"The inputs of `{name}` must be {', '.join(sorted(specs))}. Received: "
                f"{', '.join(sorted(inputs))}."
            )
        tensors = {key: _as_tensor(key, inputs[key], spec) for key, spec in specs.items()}
        try:
            return self.run(name, **tensors)
        except tf.errors.InvalidArgumentError as error:
            reason = re.search(r"assertion failed: (.+)|$", error.message)
            raise _explain(error, 1) or InputError(
                f"The signature `{name}` refuses its inputs: "
                f"{(reason and reason[1]) or 'they do not fit together'}"
            ) from error

    def run(self, name: str, **inputs: tf.Tensor) -> dict[str, np.ndarray]:
        """Returns what a signature gives, as arrays.

        Raises:
            InputError: If the export lacks it, or it takes other inputs.
        """
        signature = self._named(name)
        if inputs.keys() != signature.structured_input_signature[1].keys():
            raise InputError("The state is of another export. Read the prompt again with this one.")
        return {key: value.numpy() for key, value in signature(**inputs).items()}

    def _named(self, name: str) -> Any:
        """Returns a signature; raises InputError if there is none of this name."""
        if name not in self._signatures:
            raise InputError(
                f"This export has no signature `{name}`: it was made by an earlier version, or its "
                f"model or search has none. Export the run again, or use the run."
            )
        return self._signatures[name]


def check_texts(texts: Sequence[str], first_line: int) -> None:
    """Raises InputError if a text cannot be spelled in UTF-8."""
    check_not_forked()
    for place, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _not_text(first_line + place) from error


def _as_tensor(name: str, value: Any, spec: tf.TensorSpec) -> tf.Tensor:
    """Returns an input of a signature.

    Raises:
        InputError: If the value is of another type or shape.
    """
    try:
        tensor = tf.constant(value, spec.dtype)
        # TensorFlow takes whole numbers that are too large modulo their range.
        if spec.dtype.is_integer and not np.array_equal(tensor, np.array(value)):
            tensor = None
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError):
        tensor = None
    if tensor is None or not spec.shape.is_compatible_with(tensor.shape):
        raise InputError(
            f"`{name}` must be {spec.dtype.name} {spec.shape}. Received: {shorten(value)}."
        )
    return tensor


def _explain(error: tf.errors.InvalidArgumentError, first_line: int) -> InputError | None:
    """Returns what is wrong with an input, in words for people; None if that is not it."""
    _, is_long, rest = error.message.partition(TOO_LONG)
    numbers = [int(number) for number in re.findall(r"\[+(\d+)\]+", rest)]
    if is_long and len(numbers) >= 3:
        place, limit, length, *_ = numbers
        return InputError(
            f"Line {first_line + place} has {length} tokens; the model takes at most {limit}. "
            f"Split the line, or export the run with --long-lines truncate or mark."
        )
    _, is_not_text, rest = error.message.partition(NOT_TEXT)
    if is_not_text and (number := re.search(r"\[+(\d+)\]+", rest)):
        return _not_text(first_line + int(number[1]))
    return None


def _not_text(line: int) -> InputError:
    return InputError(f"Line {line} is not UTF-8. Save the text as UTF-8.")
