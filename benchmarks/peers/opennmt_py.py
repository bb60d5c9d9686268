"""OpenNMT-py 3.5 on the common model, as a peer: the speed of training and decoding.

    python benchmarks/peers/opennmt_py.py IDS.npz --seconds 40
    python benchmarks/peers/opennmt_py.py MODEL.npz --decode --beam-size 5 --batch-size 64

IDS.npz and MODEL.npz come from `training_speed.py` and `decoding_speed.py`. Needs `onmt_train`
beside this Python (`pip install torch==2.13.0`, `pip install --no-deps OpenNMT-py==3.5.1` and what
it asks for; empty modules `spacy` and `fasttext` will do). Prints a line of JSON.

The speed of training is what OpenNMT-py reports itself, after its first 50 steps. To decode,
OpenNMT-py's own model gets the weights of a run of this package, and its own `Translator` gets
batches of token ids: its reading of files and its handling of text are not measured.
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
from typing import Any

import numpy as np
from decoding import measure_decoding

PAD, BOS, EOS = 0, 2, 3
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


def split_rows(ids: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Returns each row of a flat array."""
    return np.split(ids, np.cumsum(lengths)[:-1])


def words(vocab_size: int) -> list[str]:
    """Returns a vocabulary in which each id, past the special ones, is its own word."""
    return ["<blank>", "<unk>", "<s>", "</s>", *map(str, range(4, vocab_size))]


def write_rows(path: Path, ids: np.ndarray, lengths: np.ndarray) -> None:
    """Writes a row a line, each id as a word."""
    rows = split_rows(ids, lengths)
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))


def weights(data: Any) -> dict[str, np.ndarray]:
    """Returns the weights of a run of this package under OpenNMT-py's names."""
    bias = data["output_bias"].copy()
    # Padding and BOS are never to be generated; OpenNMT-py has an option for UNK alone.
    bias[[PAD, BOS]] = -1e9
    state = {
        "encoder.embeddings.make_embedding.emb_luts.0.weight": data["source_embedding"],
        "decoder.embeddings.make_embedding.emb_luts.0.weight": data["target_embedding"],
        # Applied to the query here, to what is attended to in this package: hence not transposed.
        "decoder.attn.linear_in.weight": data["keys"],
        # The context comes first here, the query in this package.
        "decoder.attn.linear_out.weight": np.roll(data["combine"], len(data["keys"]), 0).T,
        "generator.weight": data["output"].T,
        "generator.bias": bias,
    }
    # Keras has one bias and the gates in the same order.
    for layer, ours in (
        ("encoder.rnn.{}", "forward"),
        ("encoder.rnn.{}_reverse", "backward"),
        ("decoder.rnn.{}", "decoder"),
    ):
        state[layer.format("weight_ih_l0")] = data[f"{ours}_kernel"].T
        state[layer.format("weight_hh_l0")] = data[f"{ours}_recurrent_kernel"].T
        state[layer.format("bias_ih_l0")] = data[f"{ours}_bias"]
        state[layer.format("bias_hh_l0")] = np.zeros_like(data[f"{ours}_bias"])
    return state


def build_translator(data: Any, beam_size: int) -> Any:
    """Returns OpenNMT-py's `Translator` of its own model with the given weights."""
    import torch
    from onmt.inputters.inputter import dict_to_vocabs
    from onmt.model_builder import build_base_model
    from onmt.translate import GNMTGlobalScorer, Translator
    from onmt.utils.parse import ArgumentParser

    vocabulary = words(int(data["vocab_size"]))
    vocabs = dict_to_vocabs({"src": vocabulary, "tgt": vocabulary, "data_task": "seq2seq"})
    frozen = {"freeze_word_vecs_enc": False, "freeze_word_vecs_dec": False}
    options = ArgumentParser.ckpt_model_opts(argparse.Namespace(**OPTIONS, **frozen))
    ArgumentParser.update_model_opts(options)
    ArgumentParser.validate_model_opts(options)
    model = build_base_model(options, vocabs).eval()
    # It takes over the tensors as they are, and transposed ones would be slower to multiply by.
    state = {name: torch.tensor(array).contiguous() for name, array in weights(data).items()}
    model.load_state_dict({"model": state, "generator": {}})
    return Translator(
        model,
        vocabs,
        max_length=int(data["max_length"]),
        max_length_ratio=0,
        beam_size=beam_size,
        random_sampling_topk=int(beam_size == 1),  # 1 makes it `GreedySearch` and an argmax.
        ban_unk_token=True,
        global_scorer=GNMTGlobalScorer(float(data["length_penalty"]), 0.0, "wu", "none"),
    )


def decode(data: Any, beam_size: int, batch_size: int, lines: int | None) -> None:
    """Decodes the sources and prints the speed and the outputs."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    torch.set_num_threads(2)
    translator = build_translator(data, beam_size)
    rows = split_rows(data["source_ids"], data["source_lengths"])[:lines]

    def search(sources: list[Any]) -> list[list[int]]:
        source = pad_sequence(sources, batch_first=True)
        lengths = torch.tensor([len(row) for row in sources])
        batch = {"src": source.unsqueeze(-1), "srclen": lengths}
        found = translator.translate_batch(batch, attn_debug=False)
        outputs = [best.tolist() for (best,) in found["predictions"]]
        return [row[: row.index(EOS)] if EOS in row else row for row in outputs]

    measure_decoding([torch.tensor([*row, EOS]) for row in rows], batch_size, search)


def train(data: Any, seconds: float) -> None:
    """Trains for about `seconds` seconds and prints what came of it."""
    # A report is some 15 seconds on two cores; the first one is the warm-up.
    reports = 1 + max(1, round(seconds / 15))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for side in ("source", "target"):
            write_rows(folder / side, data[f"{side}_ids"], data[f"{side}_lengths"])
        (folder / "vocab").write_text("\n".join(words(int(data["vocab_size"]))) + "\n")
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


def main() -> None:
    """Trains for some seconds, or decodes, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--beam-size", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lines", type=int)
    arguments = parser.parse_args()
    data = np.load(arguments.ids)
    if arguments.decode:
        decode(data, arguments.beam_size, arguments.batch_size, arguments.lines)
    else:
        train(data, arguments.seconds)


if __name__ == "__main__":
    main()
