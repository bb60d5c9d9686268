"""How fast a trained model decodes on a CPU, beside the same model in PyTorch and OpenNMT-py.

    s2s fit benchmarks/configs/common.yaml --set data.root=DIR --set training.max_minutes=5
    python benchmarks/decoding_speed.py runs/common --source DIR/test_2016_flickr.en
        [--torch PYTHON] [--opennmt PYTHON] [--rounds 3]

The run folder is asked as it is and for speed (shortlist, bfloat16), exports of both in a process
without this package. The peers get the weights and token ids of the run, so they look for the same
outputs; the share of lines on which the run folder agrees is shown (OpenNMT-py ends a beam search
earlier, so that it does less). The contestants take turns, each in a process of its own: once the
whole file in batches of 64, once its first lines one at a time. Prints a table of medians, and
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
FAST = {"shortlist": True, "precision": "bfloat16"}


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


def decode(
    run: Path, lines: list[str], beam_size: int, batch_size: int, *, is_fast: bool
) -> dict[str, Any]:
    """Decodes with this package and returns what was measured."""
    model = load(run)
    options = {"beam_size": beam_size, "batch_size": batch_size}
    if is_fast:
        options |= FAST
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
        "start_and_first_output": first_output,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "outputs": outputs,
    }


# What a server would do, in a process that knows nothing of this package.
SERVE = """
import json, os, resource, sys, time
import tensorflow as tf, tensorflow_text
path, source, batch_size, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
lines = open(source, encoding="utf-8").read().splitlines()[:number]
serve = tf.saved_model.load(path).signatures["serving_default"]
def answer(lines):
    return [text.decode() for text in serve(inputs=tf.constant(lines))["outputs"].numpy()]
answer(lines[:1])
first_output = time.time() - float(os.environ["STARTED"])
if batch_size > 1:
    answer(lines)
started = time.perf_counter()
found = answer(lines) if batch_size > 1 else [answer([line])[0] for line in lines]
seconds = time.perf_counter() - started
print(json.dumps({
    "lines_per_second": len(lines) / seconds,
    "start_and_first_output": first_output,
    "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    "texts": found,
}))
"""


# The system counts the memory of the process that starts another one as the other's, too.
CLEAN_START = ["sh", "-c", '"$@"; exit $?', "sh"]


def run(command: list[str]) -> dict[str, Any]:
    """Runs a contestant; returns the JSON of its last line."""
    environment = os.environ | {"STARTED": str(time.time())}
    result = subprocess.run(
        [*CLEAN_START, *command], capture_output=True, text=True, check=False, env=environment
    )
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def contestants(
    arguments: argparse.Namespace, exported: Path, weights: Path, beam_size: int, batch_size: int
) -> dict[str, list[str]]:
    """Returns the command of each contestant."""
    source, setting = str(arguments.source), [str(beam_size), str(batch_size)]
    number = str(LINES_ALONE if batch_size == 1 else arguments.num_lines)
    ours = [sys.executable, __file__, str(arguments.run), "--source", source, "--setting", *setting]
    serve, asked = [sys.executable, "-c", SERVE], [source, setting[1], number]
    commands = {
        "seq2seq_kit": ours,
        "the same, exported": [*serve, str(exported / setting[0]), *asked],
        "shortlist and bfloat16": [*ours, "--fast"],
        "shortlist and bfloat16, exported": [*serve, str(exported / f"{setting[0]}-fast"), *asked],
    }
    options = ["--decode", "--beam-size", setting[0], "--batch-size", setting[1], "--lines", number]
    for name, python, script in (
        ("PyTorch", arguments.torch, "torch_seq2seq.py"),
        ("OpenNMT-py", arguments.opennmt, "opennmt_py.py"),
    ):
        if python:
            commands[name] = [python, str(FOLDER / "peers" / script), str(weights), *options]
    return commands


def measure(arguments: argparse.Namespace, lines: list[str]) -> dict[str, Any]:
    """Returns what each contestant gave in each round of each setting."""
    measured: dict[str, Any] = {}
    arguments.num_lines = len(lines)
    model = load(arguments.run)
    with tempfile.TemporaryDirectory() as scratch:
        weights, exported = Path(scratch) / "model.npz", Path(scratch) / "exported"
        write_model(model, lines, weights)
        for beam_size in {beam_size for beam_size, _ in SETTINGS}:
            plain = model.config.decoding.model_copy(update={"beam_size": beam_size})
            model.export(exported / str(beam_size), decoding=plain)
            model.export(exported / f"{beam_size}-fast", decoding=plain.model_copy(update=FAST))
        for beam_size, batch_size in SETTINGS:
            commands = contestants(arguments, exported, weights, beam_size, batch_size)
            rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
            for _ in range(arguments.rounds):
                for name, command in commands.items():
                    found = run(command)
                    if "texts" not in found:
                        found["texts"] = model.tokenizer.decode(found.pop("outputs"))
                    rounds[name].append(found)
                    print(
                        f"beam {beam_size}, batch {batch_size}, {name}: "
                        f"{found['lines_per_second']:.1f} lines/s",
                        file=sys.stderr,
                        flush=True,
                    )
            measured[f"beam {beam_size}, batch {batch_size}"] = rounds
    return measured


def print_table(measured: dict[str, Any]) -> None:
    """Prints a row for each setting and contestant."""
    print("| | | lines/s | ratio | start and first output, s | memory, GB | agrees |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for setting, rounds in measured.items():
        ours = [one["lines_per_second"] for one in rounds["seq2seq_kit"]]
        expected = rounds["seq2seq_kit"][0]["texts"]
        for name, found in rounds.items():
            speeds = [one["lines_per_second"] for one in found]
            ratio = statistics.median(a / b for a, b in zip(ours, speeds, strict=True))
            first, memory = (
                statistics.median(one[key] for one in found)
                for key in ("start_and_first_output", "peak_memory_gb")
            )
            pairs = zip(found[0]["texts"], expected, strict=True)
            agrees = statistics.fmean(a == b for a, b in pairs)
            shown = ", ".join(f"{speed:.1f}" for speed in speeds)
            print(
                f"| {setting} | {name} | {shown} | {ratio:.2f} | {first:.1f} "
                f"| {memory:.2f} | {agrees:.1%} |"
            )


def main() -> None:
    """Runs the contestants in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--torch", help="a Python that has torch")
    parser.add_argument("--opennmt", help="a Python that has OpenNMT-py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("decoding_speed.json"))
    parser.add_argument("--setting", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--fast", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    lines = arguments.source.read_text(encoding="utf-8").splitlines()
    if arguments.setting:
        beam_size, batch_size = arguments.setting
        lines = lines if batch_size > 1 else lines[:LINES_ALONE]
        found = decode(arguments.run, lines, beam_size, batch_size, is_fast=arguments.fast)
        print(json.dumps(found))
        return
    measured = measure(arguments, lines)
    print_table(measured)
    for rounds in measured.values():
        for found in rounds.values():
            for one in found:
                del one["texts"]
    arguments.output.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
