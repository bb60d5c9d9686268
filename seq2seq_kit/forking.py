"""Detects a process that was forked after TensorFlow had started, where TensorFlow would hang.

TensorFlow's threads exist only in the parent: any operation that needs one never ends in the child.
"""

import os
import sys

from seq2seq_kit.errors import RunError

_is_broken = False


def check_not_forked() -> None:
    """Checks that TensorFlow can compute in this process.

    Raises:
        RunError: If TensorFlow had computed before this process was forked.
    """
    if _is_broken:
        raise RunError(
            "This process was forked after TensorFlow had computed in its parent, so TensorFlow "
            "cannot compute here and would never return. Start processes that load the model "
            "themselves, with multiprocessing.get_context('spawn'), or fork before TensorFlow "
            "computes and load the model in the child."
        )


def _note_fork() -> None:
    global _is_broken
    context = sys.modules.get("tensorflow.python.eager.context")
    context = context and context.context_safe()
    if context is not None and context._initialized:
        _is_broken = True


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=_note_fork)
