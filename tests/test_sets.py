"""Training and validation sets as a config describes them."""

from pathlib import Path

from small_config import config_of

from seq2seq_kit.data.sets import batch_set, encode_data
from seq2seq_kit.data.tokenizers import build_tokenizers
from seq2seq_kit.digests import FileDigests


def test_validation_data_are_those_named_or_held_out(folder: Path) -> None:
    named = config_of(folder)
    data = encode_data(named, build_tokenizers(named, FileDigests()), FileDigests())
    assert (len(data.train), len(data.validation)) == (40, 2)
    held_out = config_of(folder, data={"root": str(folder), "train": "train.tsv", "holdout": 4})
    data = encode_data(held_out, build_tokenizers(held_out, FileDigests()), FileDigests())
    assert len(data.train) + len(data.validation) == 40
    assert 1 <= len(data.validation) <= 4


def test_batches_follow_the_config(folder: Path) -> None:
    training = {"batch_size": 160, "batch_unit": "tokens"}
    config = config_of(folder, training=training, seed=7)
    data = encode_data(config, build_tokenizers(config, FileDigests()), FileDigests())
    batches = batch_set(config, data.train, shuffle=True)
    found = (batches.batch_size, batches.batch_unit, batches.seed, batches.shuffle, batches.window)
    assert found == (160, "tokens", 7, True, 64)
    assert batches.architecture == "encoder_decoder"
