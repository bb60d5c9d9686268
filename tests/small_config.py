"""Small corpora of six-letter words, and a config for them."""

from pathlib import Path
from typing import Any

from seq2seq_kit.config import Config, load_config

NUMBERS = [f"{number:06b}" for number in range(40)]
PAIRS = [(n.translate({48: "a", 49: "b"}), n.translate({48: "x", 49: "yz"})) for n in NUMBERS]


def write_texts(folder: Path) -> None:
    """Writes train.tsv with 40 pairs of six letters, dev.tsv with two, and text.txt."""
    lines = "".join(f"{source}\t{target}\n" for source, target in PAIRS)
    (folder / "train.tsv").write_text(lines, encoding="utf-8")
    (folder / "dev.tsv").write_text("ba\tzy\nb  a\tx z\n", encoding="utf-8")
    (folder / "text.txt").write_text("\n".join(NUMBERS), encoding="utf-8")


def config_of(folder: Path, **sections: Any) -> Config:
    """A small config with these sections; without one that is None."""
    small = {"type": "char", "vocab_size": 40, "byte_fallback": False}
    data = {"root": str(folder), "train": "train.tsv", "validation": "dev.tsv"}
    values = {"data": data, "tokenizer": small, "model": {"units": 8, "embedding_dim": 4}}
    given = {name: value for name, value in (values | sections).items() if value is not None}
    return load_config(given)
