"""How fast training on a CPU is, beside other ways to train the same model on the same text.

    python benchmarks/training_speed.py --data DIR [--torch PYTHON] [--opennmt PYTHON]
        [--rounds 3] [--seconds 40]

DIR is Multi30k's, see `benchmarks/configs/common.yaml`. The contestants take turns, each in a
separate process, for a number of seconds after its first steps; a process measures the machine's
best rate of matrix products, too. Prints a table of medians, and writes all numbers as JSON.

Tokens are real target tokens, EOS counted. The matrix share is the time that the products of the
model would take at that rate, real tokens only, as a part of the time taken.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
WARMUP_STEPS = 15
VOCAB_SIZE, EMBEDDING_DIM, UNITS = 8000, 256, 512


def load(data: Path, *overrides: str) -> tuple[Any, Any, Any]:
    """Returns the config, the tokenizers and the encoded data."""
    from seq2seq_kit.config import load_config
    from seq2seq_kit.data.sets import encode_data
    from seq2seq_kit.data.tokenizers import build_tokenizers
    from seq2seq_kit.digests import FileDigests

    path = FOLDER / "configs" / "common.yaml"
    config = load_config(path, [f"data.root={data.absolute()}", *overrides])
    digests = FileDigests()
    tokenizers = build_tokenizers(config, digests)
    return config, tokenizers, encode_data(config, tokenizers, digests)


def write_ids(data: Path, path: Path) -> dict[str, float]:
    """Writes the training ids for the other contestants; returns their mean lengths."""
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    import numpy as np

    _, tokenizers, sets = load(data)
    sides = {"source": sets.train.source, "target": sets.train.target}
    arrays = {f"{name}_lengths": side.lengths for name, side in sides.items()}
    arrays |= {
        f"{name}_ids": np.concatenate([side[row] for row in range(len(side))])
        for name, side in sides.items()
    }
    np.savez(path, vocab_size=tokenizers.target.vocab_size, **arrays)
    source_lengths, target_lengths = (1 + side.lengths for side in sides.values())
    return {
        "source_per_target": float(source_lengths.sum() / target_lengths.sum()),
        "attended_per_target": float(
            (source_lengths * target_lengths).sum() / target_lengths.sum()
        ),
    }


def operations_per_token(lengths: dict[str, float]) -> float:
    """Returns the floating-point operations of all products for a target token.

    A multiply-add is two; forward is one product, backward two.
    """
    source, attended = lengths["source_per_target"], lengths["attended_per_target"]
    encoder = 4 * UNITS * (EMBEDDING_DIM + UNITS // 2)
    decoder = 4 * UNITS * (EMBEDDING_DIM + UNITS)
    attention = 2 * UNITS * attended
    rest = 2 * UNITS * UNITS + UNITS * VOCAB_SIZE
    return 6 * (source * (encoder + UNITS * UNITS) + decoder + attention + rest)


def best_gemm_rate(precision: str = "float32", seconds: float = 2.0) -> float:
    """Returns the best rate of a 2048 x 2048 x 2048 product, in GFLOP/s."""
    import tensorflow as tf

    left, right = tf.cast(tf.random.normal([2, 2048, 2048]), precision)
    product = tf.function(tf.matmul)
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        product(left, right).numpy()
        best = min(best, time.perf_counter() - begun)
    return 2 * 2048**3 / best / 1e9


def train(data: Path, seconds: float, precision: str) -> dict[str, float]:
    """Trains with this package and returns what was measured."""
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    import keras

    from seq2seq_kit.data.sets import batch_set
    from seq2seq_kit.model.build import build_network
    from seq2seq_kit.training.distribution import make_strategy
    from seq2seq_kit.training.run_folder import RunFolder
    from seq2seq_kit.training.step import TrainingSteps
    from seq2seq_kit.training.trainer import Trainer

    config, tokenizers, sets = load(data, f"training.precision={precision}")
    keras.utils.set_random_seed(config.seed)
    train_set = batch_set(config, sets.train, shuffle=True)
    plan = train_set.plan(0)

    class Meter(keras.callbacks.Callback):
        """Counts tokens and seconds after the first steps, and stops training in time."""

        num_tokens = 0
        waited = 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch > WARMUP_STEPS:
                self.waited += time.perf_counter() - self.ended

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.ended = time.perf_counter()
            if batch == WARMUP_STEPS - 1:
                self.started = self.ended
            elif batch >= WARMUP_STEPS:
                self.num_tokens += plan[batch].num_tokens
                self.model.stop_training = self.ended - self.started > seconds

    class StepsAlone(TrainingSteps):
        """Validations cost nothing: between steps the loop only waits for the next batch."""

        def mean_loss(self, *_: Any, **__: Any) -> float:
            return 0.0

    meter = Meter()
    rate = best_gemm_rate(precision)
    with tempfile.TemporaryDirectory() as folder:
        model = build_network(config, tokenizers)
        Trainer(
            StepsAlone(model, config.training, make_strategy("default")),
            config.training,
            RunFolder(Path(folder)),
            train_set,
            batch_set(config, sets.validation, shuffle=False),
            callbacks=[meter],
        ).fit()
    taken = meter.ended - meter.started
    return {
        "tokens_per_second": meter.num_tokens / taken,
        "padding": plan.padding_share,
        "waiting": meter.waited / taken,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "gemm_gflops": max(rate, best_gemm_rate(precision)),
    }


# The system counts the memory of the process that starts another one as the other's, too.
CLEAN_START = ["sh", "-c", '"$@"; exit $?', "sh"]


def run(command: list[str]) -> dict[str, float]:
    """Runs a contestant; returns the JSON of its last line."""
    result = subprocess.run([*CLEAN_START, *command], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Runs the contestants in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--torch", help="a Python that has torch")
    parser.add_argument("--opennmt", help="a Python that has OpenNMT-py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--output", type=Path, default=Path("training_speed.json"))
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(train(arguments.data, arguments.seconds, arguments.precision)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        ids = Path(scratch) / "ids.npz"
        operations = operations_per_token(write_ids(arguments.data, ids))
        seconds = ["--seconds", str(arguments.seconds)]
        peers = FOLDER / "peers"
        ours = [sys.executable, __file__, "--run", "--data", str(arguments.data)]
        contestants = {
            "seq2seq_kit": ours,
            "the same, bfloat16": [*ours, "--precision", "bfloat16"],
            "Keras, fit": [sys.executable, str(peers / "keras_fit.py"), str(ids)],
        }
        if arguments.torch:
            contestants["PyTorch"] = [arguments.torch, str(peers / "torch_seq2seq.py"), str(ids)]
        if arguments.opennmt:
            contestants["OpenNMT-py"] = [arguments.opennmt, str(peers / "opennmt_py.py"), str(ids)]
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
        for _ in range(arguments.rounds):
            for name, command in contestants.items():
                measured[name].append(run([*command, *seconds]))
                print(name, measured[name][-1], file=sys.stderr, flush=True)
    gemm = max(one["gemm_gflops"] for one in measured["seq2seq_kit"])
    bfloat16 = max(one["gemm_gflops"] for one in measured["the same, bfloat16"])
    print(f"GEMM {gemm:.0f} GFLOP/s, in bfloat16 {bfloat16:.0f}")
    print(f"{operations / 1e6:.1f} million operations a token")
    print("| | tokens/s | ratio | matrix share | padding | peak memory, GB |")
    print("| --- | --- | --- | --- | --- | --- |")
    ours = [one["tokens_per_second"] for one in measured["seq2seq_kit"]]
    for name, rounds in measured.items():
        speeds = [one["tokens_per_second"] for one in rounds]
        ratio = statistics.median(a / b for a, b in zip(ours, speeds, strict=True))
        rate = bfloat16 if "bfloat16" in name else gemm
        share = statistics.median(speeds) * operations / rate / 1e9
        memory = statistics.median(one["peak_memory_gb"] for one in rounds)
        padding = rounds[0]["padding"]
        shown_padding = "not reported" if padding is None else f"{padding:.1%}"
        print(
            f"| {name} | {', '.join(f'{speed:,.0f}' for speed in speeds)} | {ratio:.2f} "
            f"| {share:.0%} | {shown_padding} | {memory:.2f} |"
        )
    report = {"gemm_gflops": gemm, "operations_per_token": operations, "rounds": measured}
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
