"""How fast a trained model decodes on a CPU, beside the same model in PyTorch.

    s2s fit benchmarks/configs/common.yaml --set data.root=DIR --set training.max_minutes=8
    python benchmarks/decoding_speed.py runs/common --source DIR/test_2016_flickr.en
        [--torch PYTHON] [--rounds 3]

PyTorch gets the weights and token ids of the run, so both search for the same outputs; the share of
lines on which they agree is shown. The contestants take turns, each in a process of its own: once
the whole file in batches of 64, once its first lines one at a time. Prints a table of medians, and
writes all numbers as JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SETTINGS = [(1, 64), (5, 64), (1, 1), (5, 1)]
LINES_ALONE = 100  # How many lines are decoded one at a time.


def load(path: Path) -> Any:
    """Returns the model of a run folder."""
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from seq2seq_kit.seq2seq import Seq2Seq

    return Seq2Seq.load(path)


def write_model(model: Any, lines: list[str], path: Path) -> None:
    """Writes weights, token ids and search options for the other contestants."""
    import numpy as np

    network = model.model
    arrays = {
        "source_embedding": network.source_embedding.embeddings,
        "target_embedding": network.embedding.embeddings,
        "keys": network.decoder.attend.key_projection.kernel,
        "combine": network.decoder.combine.kernel,
        "output": network.output_kernel,
        "output_bias": network.output_bias,
    }
    stacks = {
        "forward": network.encoder.forward_layers[0],
        "backward": network.encoder.backward_layers[0],
        "decoder": network.decoder.below,
    }
    for name, stack in stacks.items():
        cell = stack.layers[0].cell
        arrays |= {
            f"{name}_kernel": cell.kernel,
            f"{name}_recurrent_kernel": cell.recurrent_kernel,
            f"{name}_bias": cell.bias,
        }
    sources = model.source_tokenizer.encode(lines)
    np.savez(
        path,
        vocab_size=model.tokenizer.vocab_size,
        max_length=model.config.decoding.max_length,
        length_penalty=model.config.decoding.length_penalty,
        source_ids=np.concatenate(sources),
        source_lengths=np.array([len(row) for row in sources]),
        **{name: variable.numpy() for name, variable in arrays.items()},
    )


def decode(run: Path, lines: list[str], beam_size: int, batch_size: int) -> dict[str, Any]:
    """Decodes with this package and returns what was measured."""
    model = load(run)
    options = {"beam_size": beam_size, "batch_size": batch_size}
    model.generate(lines[:1], **options)
    first_output = time.time() - float(os.environ["STARTED"])
    if batch_size > 1:
        model.generate(lines, **options)
    started = time.perf_counter()
    if batch_size == 1:
        # As a server does that answers one request after the other.
        found = [next(model.hypotheses([line], **options))[0] for line in lines]
    else:
        found = [best for best, *_ in model.hypotheses(lines, **options)]
    seconds = time.perf_counter() - started
    outputs = [[token for token in one.token_ids if token != 3] for one in found]
    return {
        "lines_per_second": len(lines) / seconds,
        "tokens_per_second": sum(map(len, outputs)) / seconds,
        "start_and_first_output": first_output,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "outputs": outputs,
    }


def run(command: list[str]) -> dict[str, Any]:
    """Runs a contestant; returns the JSON of its last line."""
    environment = os.environ | {"STARTED": str(time.time())}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def measure(arguments: argparse.Namespace, lines: list[str]) -> dict[str, Any]:
    """Returns what each contestant gave in each round of each setting."""
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "model.npz"
        write_model(load(arguments.run), lines, weights)
        for beam_size, batch_size in SETTINGS:
            ours = [sys.executable, __file__, str(arguments.run), "--source", str(arguments.source)]
            contestants = {"seq2seq_kit": [*ours, "--setting", str(beam_size), str(batch_size)]}
            if arguments.torch:
                peer = [arguments.torch, str(FOLDER / "peers" / "torch_seq2seq.py"), str(weights)]
                peer += ["--decode", "--beam-size", str(beam_size), "--batch-size", str(batch_size)]
                limit = LINES_ALONE if batch_size == 1 else len(lines)
                contestants["PyTorch"] = [*peer, "--lines", str(limit)]
            rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
            for _ in range(arguments.rounds):
                for name, command in contestants.items():
                    rounds[name].append(run(command))
            measured[f"beam {beam_size}, batch {batch_size}"] = rounds
    return measured


def print_table(measured: dict[str, Any]) -> None:
    """Prints a row for each setting and contestant."""
    print("| | | lines/s | ratio | tokens/s | start and first output, s | memory, GB | agrees |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for setting, rounds in measured.items():
        ours = [one["lines_per_second"] for one in rounds["seq2seq_kit"]]
        expected = rounds["seq2seq_kit"][0]["outputs"]
        for name, found in rounds.items():
            speeds = [one["lines_per_second"] for one in found]
            ratio = statistics.median(a / b for a, b in zip(ours, speeds, strict=True))
            tokens, first, memory = (
                statistics.median(one[key] for one in found)
                for key in ("tokens_per_second", "start_and_first_output", "peak_memory_gb")
            )
            pairs = zip(found[0]["outputs"], expected, strict=True)
            agrees = statistics.fmean(a == b for a, b in pairs)
            shown = ", ".join(f"{speed:.1f}" for speed in speeds)
            print(
                f"| {setting} | {name} | {shown} | {ratio:.2f} | {tokens:,.0f} | {first:.1f} "
                f"| {memory:.2f} | {agrees:.1%} |"
            )


def main() -> None:
    """Runs the contestants in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--torch", help="a Python that has torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("decoding_speed.json"))
    parser.add_argument("--setting", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    lines = arguments.source.read_text(encoding="utf-8").splitlines()
    if arguments.setting:
        beam_size, batch_size = arguments.setting
        lines = lines if batch_size > 1 else lines[:LINES_ALONE]
        print(json.dumps(decode(arguments.run, lines, beam_size, batch_size)))
        return
    measured = measure(arguments, lines)
    print_table(measured)
    for rounds in measured.values():
        for found in rounds.values():
            for one in found:
                del one["outputs"]
    arguments.output.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
