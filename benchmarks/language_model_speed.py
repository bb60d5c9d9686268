"""How fast a language model is trained on streams, beside a hand-written PyTorch one.

    python benchmarks/language_model_speed.py --data DIR --torch PYTHON [--rounds 3] [--seconds 40]

DIR is WikiText-2's, see `benchmarks/configs/wikitext2.yaml`: both have its model and windows. They
take turns, each in its own process, for the given seconds after their first steps. Prints tokens
per second of each round and the median of the ratios.
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


def load(data: Path, overrides: list[str]) -> tuple[Any, Any, Any]:
    """Returns the config, the size of the vocabulary and the encoded training data."""
    from seq2seq_kit.config import load_config
    from seq2seq_kit.data.sets import encode_data
    from seq2seq_kit.data.tokenizers import build_tokenizers
    from seq2seq_kit.digests import FileDigests

    path = FOLDER / "configs" / "wikitext2.yaml"
    config = load_config(path, [f"data.root={data.absolute()}", *overrides])
    digests = FileDigests()
    tokenizers = build_tokenizers(config, digests)
    return config, tokenizers, encode_data(config, tokenizers, digests).train


def write_ids(data: Path, overrides: list[str], path: Path) -> None:
    """Writes the training ids and the sizes for PyTorch."""
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    import numpy as np

    config, tokenizers, train = load(data, overrides)
    np.savez(
        path,
        ids=np.concatenate([train.target[row] for row in range(len(train))]).astype(np.int64),
        rows=config.training.batch_size,
        window=config.data.window,
        vocab_size=tokenizers.target.vocab_size,
        embedding_dim=config.model.embedding_dim,
        units=config.model.units,
        layers=config.model.decoder_layers,
        dropout=config.model.dropout,
    )


def train(data: Path, overrides: list[str], seconds: float) -> dict[str, float]:
    """Trains with this package and returns what was measured."""
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from seq2seq_kit.data.sets import batch_set
    from seq2seq_kit.model.build import build_network
    from seq2seq_kit.training.distribution import make_strategy
    from seq2seq_kit.training.step import TrainingSteps

    config, tokenizers, encoded = load(data, overrides)
    streams = batch_set(config, encoded, shuffle=True)
    model = build_network(config, tokenizers)
    steps = TrainingSteps(
        model, config.training, make_strategy("default"), carried_rows=streams.carried_rows
    )
    num_tokens, begun = 0.0, time.perf_counter()
    for step, batch in enumerate(steps.batches(streams, streams.plan(0))):
        if step == WARMUP_STEPS:
            num_tokens, begun = 0.0, time.perf_counter()
        num_tokens += steps.train(batch)[1]
        if step > WARMUP_STEPS and time.perf_counter() - begun > seconds:
            break
    return {
        "tokens_per_second": num_tokens / (time.perf_counter() - begun),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def run(command: list[str]) -> dict[str, float]:
    """Runs a contestant; returns the JSON of its last line."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Runs the contestants in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--torch", help="a Python that has torch and numpy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(train(arguments.data, arguments.overrides, arguments.seconds)))
        return
    given = [part for one in arguments.overrides for part in ("--set", one)]
    ours = [sys.executable, __file__, "--run", "--data", str(arguments.data), *given]
    bfloat16 = [*ours, "--set", "training.precision=bfloat16"]
    contestants = {"seq2seq_kit": ours, "the same, bfloat16": bfloat16}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.torch:
            ids = Path(scratch) / "ids.npz"
            write_ids(arguments.data, arguments.overrides, ids)
            peer = FOLDER / "peers" / "torch_language_model.py"
            contestants["PyTorch"] = [arguments.torch, str(peer), str(ids)]
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
        for _ in range(arguments.rounds):
            for name, command in contestants.items():
                found = run([*command, "--seconds", str(arguments.seconds)])
                measured[name].append(found)
                print(name, found, file=sys.stderr, flush=True)
    speeds = {
        name: [one["tokens_per_second"] for one in rounds] for name, rounds in measured.items()
    }
    print("| | tokens/s | ours to it, median of the rounds | peak memory, GB |")
    print("| --- | --- | --- | --- |")
    for name, of_rounds in speeds.items():
        ratio = statistics.median(
            a / b for a, b in zip(speeds["seq2seq_kit"], of_rounds, strict=True)
        )
        memory = statistics.median(one["peak_memory_gb"] for one in measured[name])
        shown = ", ".join(f"{speed:,.0f}" for speed in of_rounds)
        print(f"| {name} | {shown} | {ratio:.2f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
