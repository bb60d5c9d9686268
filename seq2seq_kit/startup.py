"""Starts TensorFlow quietly, and refuses a Keras that computes with something else."""

import ctypes
import functools
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seq2seq_kit.errors import InputError, RunError


@functools.cache
def load_tensorflow() -> None:
    """Imports TensorFlow and Keras; call it before any module that imports them.

    Their messages while starting (found instructions, missing GPUs) are held back and shown only if
    the start fails. `TF_CPP_MIN_LOG_LEVEL` is respected if the environment sets it.

    Raises:
        InputError: If Keras is set to another backend than TensorFlow.
        RunError: If TensorFlow cannot be imported.
    """
    _check_backend(os.environ.setdefault("KERAS_BACKEND", "tensorflow"))
    _keep_freed_memory()
    # Messages about the CPU, oneDNN and XLA are logged by the first operations, long after the
    # import, some of them as errors. An operation that really fails raises an exception too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with quiet_stderr():
            import keras
            import tensorflow as tf

            # This looks for the GPU driver and complains if there is none. Listing physical devices
            # leaves open the settings that a strategy may want to change.
            tf.config.list_physical_devices()
    except ImportError as error:
        raise RunError(
            f"TensorFlow must be importable, but is not: {error}."
            " Install it again: pip install --force-reinstall tensorflow."
        ) from error
    # Its messages name, for example, the temporary folder to which an export is written.
    tensorflow_log = logging.getLogger("tensorflow")
    tensorflow_log.setLevel(logging.WARNING)
    tensorflow_log.addFilter(_is_not_about_our_graphs)
    # Keras may have been imported earlier, under another KERAS_BACKEND.
    _check_backend(keras.config.backend())


def compute_operations_on_one_thread() -> None:
    """Has TensorFlow compute each operation on one thread, for a program that searches on several.

    Spread over the cores, the small operations of a search cost a tenth more processor time. Too
    late once TensorFlow has computed anything: nothing changes then. `TF_NUM_INTRAOP_THREADS` is
    respected if the environment sets it.
    """
    load_tensorflow()
    import tensorflow as tf

    if "TF_NUM_INTRAOP_THREADS" not in os.environ:
        with suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)


def _keep_freed_memory() -> None:
    """Makes the C library reuse the memory of large arrays instead of returning it to the system.

    By default glibc returns it at once and requests it again in the next step, and the system fills
    each page with zeros: a sixth of the time of a training step on a CPU. Other C libraries have no
    such settings.
    """
    max_maps, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    set_option(max_maps, 0)
    set_option(trim_threshold, 2**31 - 1)


def _is_not_about_our_graphs(record: logging.LogRecord) -> bool:
    """Drops the warning that a graph is traced repeatedly: ours are traced again on purpose."""
    message = record.getMessage()
    return "triggered tf.function retracing" not in message or not any(
        name in message for name in ("Generator.", "Scorer.", "TrainingSteps.")
    )


def open_standard_streams() -> None:
    """Opens the null device for each standard stream that the process lacks (as after `2>&-`).

    Otherwise the next file that is opened would get the number of standard error, and TensorFlow's
    messages would be written into it. Characters that the encoding of standard output lacks are
    written as backslash escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (stays open)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def show_log(*, force: bool = False) -> None:
    """Shows the package's log on standard error, unless the program has set up logging.

    The handler is on the root logger, where progress bars can give way to messages.

    Args:
        force: Replace any earlier set-up.
    """
    package = logging.getLogger("seq2seq_kit")
    if force or not package.hasHandlers():
        logging.basicConfig(format="%(message)s", stream=sys.stderr, force=force)
        package.setLevel(logging.INFO)


def _check_backend(backend: str) -> None:
    if backend != "tensorflow":
        raise InputError(
            f"Keras must use TensorFlow here. Received: KERAS_BACKEND={backend}."
            " Set KERAS_BACKEND=tensorflow before Python starts, or unset it."
        )


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back the body's standard error, that of C++ too, and shows it only if it raises."""
    try:
        terminal = os.dup(2)
    except OSError:  # There is no standard error.
        yield
        return
    with tempfile.TemporaryFile() as kept:
        _flush_stderr()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except Exception:
            _flush_stderr()
            kept.seek(0)
            os.write(terminal, kept.read())
            raise
        finally:
            _flush_stderr()
            os.dup2(terminal, 2)
            os.close(terminal)


def _flush_stderr() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
