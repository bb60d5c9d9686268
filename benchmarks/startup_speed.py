"""How long a user waits before anything happens.

    s2s fit benchmarks/configs/common.yaml --set data.root=DIR --set training.max_minutes=5
    python benchmarks/startup_speed.py runs/common [--rounds 5]

Each is measured from the start of a new process: `s2s --help`, `s2s fit --help`, the import of the
package, the first output of the run (loaded, one line, greedy and beam 5), and the end of the first
step of training on encoded data, with the config of the run. Prints a table of medians, and writes
all numbers as JSON.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

STEP = """
import sys, time
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
import keras
from seq2seq_kit import Seq2Seq
from seq2seq_kit.config import load_saved_config

class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print(time.time(), flush=True)
        import os
        os._exit(0)

import tempfile
from pathlib import Path
with tempfile.TemporaryDirectory() as folder:
    config = load_saved_config(Path(sys.argv[1]) / "config.yaml").config
    Seq2Seq.fit(config, [Stop()], run_dir=Path(folder) / "run")
"""
IMPORT = """
import time
import seq2seq_kit
from seq2seq_kit import Seq2Seq
print(time.time())
"""
OUTPUT = """
import sys, time
from seq2seq_kit import Seq2Seq
Seq2Seq.load(sys.argv[1]).generate(["a man is riding a bicycle ."], beam_size=int(sys.argv[2]))
print(time.time())
"""


def seconds_to_end(command: list[str]) -> float:
    """Returns how long a process ran."""
    started = time.time()
    subprocess.run(command, check=True, capture_output=True)
    return time.time() - started


def seconds_to_line(code: str, *arguments: str) -> float:
    """Returns when a process that runs Python printed the time, from its start."""
    started = time.time()
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1]) - started


def main() -> None:
    """Measures each start several times in turn and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("startup_speed.json"))
    arguments = parser.parse_args()
    s2s = shutil.which("s2s", path=str(Path(sys.executable).parent)) or "s2s"
    starts = {
        "`s2s --help`": lambda: seconds_to_end([s2s, "--help"]),
        "`s2s fit --help`": lambda: seconds_to_end([s2s, "fit", "--help"]),
        "import, with TensorFlow": lambda: seconds_to_line(IMPORT),
        "load and first output, greedy": lambda: seconds_to_line(OUTPUT, arguments.run, "1"),
        "load and first output, beam 5": lambda: seconds_to_line(OUTPUT, arguments.run, "5"),
        "fit to first step, encoded data": lambda: seconds_to_line(STEP, arguments.run),
    }
    measured: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(arguments.rounds):
        for name, start in starts.items():
            measured[name].append(start())
    print("| | seconds | from to |")
    print("| --- | --- | --- |")
    for name, seconds in measured.items():
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"| {name} | {statistics.median(seconds):.2f} | {spread} |")
    arguments.output.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
