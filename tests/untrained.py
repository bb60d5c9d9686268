"""Runs with fresh weights: whole run folders, made in a second because nothing is trained."""

from pathlib import Path
from typing import Any

import keras
from small_config import config_of, write_texts

from seq2seq_kit.archive import save_archive
from seq2seq_kit.data.sets import encode_data, learn_shortlist
from seq2seq_kit.data.tokenizers import build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.model.build import build_network
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.training.checkpoint import variable_arrays
from seq2seq_kit.training.run_files import save_run
from seq2seq_kit.training.run_folder import RunFolder

CARD = """---
summary: Letters to other letters
languages: [en]
data: Forty words, invented
license: CC0
scores:
  BLEU: 12.5
---
# A card

## Data
None.

## Training
None.

## Quality
None.

## Weaknesses
All.

## Memorization
None.
"""


def untrained_run(folder: Path, name: str = "run", seed: int = 1, **sections: Any) -> RunFolder:
    """A run on the corpora of `small_config` in `folder`, as it is when training has ended."""
    config = config_of(folder, **({"seed": seed} | sections))
    digests = FileDigests()
    tokenizers = build_tokenizers(config, digests)
    shortlist = learn_shortlist(config, encode_data(config, tokenizers, digests).train, tokenizers)
    keras.utils.set_random_seed(seed)
    model = build_network(config, tokenizers)
    run = RunFolder(folder / name)
    run.path.mkdir()
    run_name = save_run(run, config, tokenizers, shortlist, digests, None)
    weights = variable_arrays(model.trainable_variables, "weights")
    save_archive(run.best, weights, {"run": run_name, "step": 1, "val_loss": 3.0})
    return run


def untrained_model(folder: Path, **sections: Any) -> Seq2Seq:
    """A loaded model with fresh weights, large enough that its outputs depend on its inputs."""
    write_texts(folder)
    model = {"units": 8, "embedding_dim": 6, "init_scale": 0.8} | sections.pop("model", {})
    # Greedy search has the graph that is traced soonest.
    decoding = {"beam_size": 1, "max_length": 8}
    run = untrained_run(folder, model=model, decoding=decoding, **sections)
    return Seq2Seq.load(run.path)


def untrained_writer(folder: Path, **model: Any) -> Seq2Seq:
    """A language model of running text, likewise."""
    data = {"root": str(folder), "train": {"text": "text.txt"}, "window": 8}
    return untrained_model(folder, task="continuation", data=data, model=model)
