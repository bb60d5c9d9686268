"""OpenNMT-py 3.5 on the common model, as a peer: training speed.

    python benchmarks/peers/opennmt_py.py IDS.npz --seconds 40

Needs `onmt_train` beside this Python (`pip install torch==2.13.0`, `pip install --no-deps
OpenNMT-py==3.5.1` and what it asks for; empty modules `spacy` and `fasttext` will do). Prints a
line of JSON: the speed is what OpenNMT-py reports itself, after its first 50 steps.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

STEPS_A_REPORT = 50
OPTIONS = {
    "src_vocab_size": 8000,
    "tgt_vocab_size": 8000,
    "vocab_size_multiple": 1,
    "encoder_type": "brnn",
    "decoder_type": "rnn",
    "rnn_type": "LSTM",
    "enc_layers": 1,
    "dec_layers": 1,
    "hidden_size": 512,
    "word_vec_size": 256,
    "global_attention": "general",
    "input_feed": 0,
    "dropout": [0.3],
    "optim": "adam",
    "learning_rate": 0.001,
    "max_grad_norm": 5,
    "batch_type": "sents",
    "batch_size": 64,
    "normalization": "tokens",
    "model_dtype": "fp32",
    "bucket_size": 29000,
    "num_workers": 0,
    "seed": 1,
    "report_every": STEPS_A_REPORT,
    "valid_steps": 10**6,
    "save_checkpoint_steps": 10**6,
}


def write_rows(path: Path, ids: np.ndarray, lengths: np.ndarray) -> None:
    """Writes a row a line, each id as a word."""
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))


def main() -> None:
    """Trains for about so many seconds and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids")
    parser.add_argument("--seconds", type=float, default=40.0)
    arguments = parser.parse_args()
    data = np.load(arguments.ids)
    # A report is some 15 seconds on two cores; the first one is the warm-up.
    reports = 1 + max(1, round(arguments.seconds / 15))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for side in ("source", "target"):
            write_rows(folder / side, data[f"{side}_ids"], data[f"{side}_lengths"])
        words = [str(index) for index in range(4, int(data["vocab_size"]))]
        (folder / "vocab").write_text("\n".join(["<blank>", "<unk>", "<s>", "</s>", *words]) + "\n")
        corpus = {"path_src": f"{folder}/source", "path_tgt": f"{folder}/target", "transforms": []}
        config = OPTIONS | {
            "save_data": f"{folder}/run",
            "save_model": f"{folder}/model",
            "src_vocab": f"{folder}/vocab",
            "tgt_vocab": f"{folder}/vocab",
            "data": {"corpus_1": corpus},
            "train_steps": STEPS_A_REPORT * reports,
        }
        (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML.
        result = subprocess.run(
            [Path(sys.executable).with_name("onmt_train"), "-config", folder / "config.yaml"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "2", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        )
    speeds = [
        float(speed) for speed in re.findall(r"\d+/(\d+) tok/s", result.stderr + result.stdout)
    ]
    print(
        json.dumps(
            {
                "tokens_per_second": statistics.fmean(speeds[1:]),
                "padding": None,
                "peak_memory_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
            }
        )
    )


if __name__ == "__main__":
    main()
