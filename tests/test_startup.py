"""Start-up, seen from outside: each test starts a process."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# The first operation and XLA print lines, too.
_USE_TENSORFLOW = """
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
import tensorflow as tf
tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.ones([2]))
print(tf.__version__)
"""


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def test_tensorflow_starts_without_a_word() -> None:
    result = run_python(_USE_TENSORFLOW)
    assert result.stderr == ""
    assert result.stdout.startswith("2.")


def test_only_our_own_graphs_may_be_traced_again_and_again() -> None:
    code = """
import sys
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
import tensorflow as tf
class Generator:
    def trace(self):
        @tf.function(autograph=False)
        def search(x):
            return x
        return search
def trace_like_another():
    @tf.function(autograph=False)
    def other(x):
        return x
    return other
for make in (Generator().trace, trace_like_another):
    for _ in range(9):
        make()(tf.ones([]))
    print("---", file=sys.stderr, flush=True)
"""
    ours, others, _ = run_python(code).stderr.split("---\n")
    assert ours == ""
    assert "triggered tf.function retracing" in others


_TELL = """
import logging
{before}
from seq2seq_kit.startup import show_log
show_log()
logging.getLogger("seq2seq_kit.anything").info("Nothing is held out.")
"""


def test_the_log_is_shown_where_no_logging_is_set_up() -> None:
    assert run_python(_TELL.format(before="")).stderr == "Nothing is held out.\n"
    own = "logging.basicConfig(format='own: %(message)s')"
    assert run_python(_TELL.format(before=own)).stderr == ""


def test_another_backend_is_refused_before_anything_is_imported() -> None:
    result = run_python(
        "import sys\n"
        "from seq2seq_kit.errors import InputError\n"
        "from seq2seq_kit.startup import load_tensorflow\n"
        "try: load_tensorflow()\n"
        "except InputError as error: print(error, 'keras' in sys.modules)\n",
        KERAS_BACKEND="jax",
    )
    assert "Received: KERAS_BACKEND=jax" in result.stdout
    assert result.stdout.endswith("False\n")


def test_keras_that_already_runs_on_another_backend_is_refused(tmp_path: Path) -> None:
    # Stands for a Keras imported while KERAS_BACKEND was jax, which need not be installed here.
    keras = "class config:\n    backend = staticmethod(lambda: 'jax')\n"
    (tmp_path / "keras.py").write_text(keras, encoding="utf-8")
    result = run_python(
        "import keras\nfrom seq2seq_kit.startup import load_tensorflow\nload_tensorflow()\n",
        PYTHONPATH=str(tmp_path),
    )
    assert (
        "InputError: Keras must use TensorFlow here. Received: KERAS_BACKEND=jax" in result.stderr
    )


def test_chatter_is_shown_if_tensorflow_fails_to_start(tmp_path: Path) -> None:
    broken = "import os\nos.write(2, b'a hint from C++\\n')\nraise ImportError('no such symbol')\n"
    (tmp_path / "tensorflow.py").write_text(broken, encoding="utf-8")
    result = run_python(
        "from seq2seq_kit.startup import load_tensorflow\nload_tensorflow()\n",
        PYTHONPATH=str(tmp_path),
    )
    assert "a hint from C++" in result.stderr
    assert "RunError: TensorFlow must be importable, but is not: no such symbol." in result.stderr


def resident_bytes() -> int:
    """Returns the memory of this process that is in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's malloc")
def test_memory_of_a_large_array_is_kept_for_the_next_one() -> None:
    array = np.ones(100_000_000, np.uint8)  # TensorFlow was loaded by conftest.py.
    before = resident_bytes()
    del array
    assert before - resident_bytes() < 50_000_000


def test_operations_have_one_thread_unless_the_environment_says_otherwise() -> None:
    code = """
import os
from seq2seq_kit.startup import compute_operations_on_one_thread
os.environ["TF_NUM_INTRAOP_THREADS"] = "2"  # TensorFlow reads it when it starts.
compute_operations_on_one_thread()
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads())
del os.environ["TF_NUM_INTRAOP_THREADS"]
compute_operations_on_one_thread()
print(tf.config.threading.get_intra_op_parallelism_threads())
"""
    assert run_python(code).stdout == "0\n1\n"
