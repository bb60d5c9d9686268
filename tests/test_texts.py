"""The texts of validation sets: those of the files, whatever the ids keep of them."""

import gzip
from pathlib import Path

import pytest
from small_config import NUMBERS, PAIRS, config_of

from seq2seq_kit.config import Config
from seq2seq_kit.data.sets import encode_data
from seq2seq_kit.data.texts import TextPairs, corpus_texts, validation_texts
from seq2seq_kit.data.tokenizers import build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import DataError
from seq2seq_kit.model.build import build_network
from seq2seq_kit.model.networks import LanguageModel


def texts_of(config: Config) -> TextPairs:
    digests = FileDigests()
    tokenizers = build_tokenizers(config, digests)
    validation = encode_data(config, tokenizers, digests).validation
    return validation_texts(config, validation, tokenizers, digests)


def test_validation_texts_are_those_of_the_file(folder: Path) -> None:
    # The tokenizer joins spaces and lacks "?", so that the text of the ids would be another one.
    rows = ["b  a?\tx  z?", "\tskipped", "ba\t \tbad", f"{'ab' * 99}\ttoo long", "a\tz"]
    (folder / "dev.tsv").write_text("\n".join(rows), encoding="utf-8")
    data = {"validation": {"tsv": "dev.tsv", "bad_lines": "skip"}}
    config = config_of(folder, data={"root": str(folder), "train": "train.tsv", **data})
    assert texts_of(config) == (["b  a?", "a"], ["x  z?", "z"])


def test_a_truncated_target_is_compared_whole(folder: Path) -> None:
    (folder / "dev.tsv").write_text("ab\txyzxyzxyz\n", encoding="utf-8")
    data = {"validation": "dev.tsv", "max_target_length": 7, "long_lines": "truncate"}
    config = config_of(folder, data={"root": str(folder), "train": "train.tsv", **data})
    assert texts_of(config) == (["ab"], ["xyzxyzxyz"])


def test_held_out_texts_are_those_of_the_held_out_rows(folder: Path) -> None:
    """Two corpora, of which some lines are skipped; every text names its row."""
    more = [f"{source}\t{target}" if n % 3 else "" for n, (source, target) in enumerate(PAIRS)]
    swapped = [line.replace("a", "c") for line in more]
    (folder / "more.tsv").write_text("\n".join(swapped), encoding="utf-8")
    for name, side in (("s.gz", 0), ("t.txt", 1)):
        text = "".join(f"{pair[side]}{pair[side]}\n" for pair in PAIRS).encode()
        (folder / name).write_bytes(gzip.compress(text) if name == "s.gz" else text)
    train = ["train.tsv", "more.tsv", {"source": "s.gz", "target": "t.txt"}]
    config = config_of(folder, data={"root": str(folder), "train": train, "holdout": 9})
    digests = FileDigests()
    tokenizers = build_tokenizers(config, digests)
    held_out = encode_data(config, tokenizers, digests).validation
    texts = validation_texts(config, held_out, tokenizers, digests)
    assert len(texts.sources) == len(held_out) == 9
    assert held_out.source is not None
    for row, (source, target) in enumerate(zip(*texts, strict=True)):
        assert tokenizers.source.encode([source])[0] == held_out.source[row].tolist()
        assert tokenizers.target.encode([target])[0] == held_out.target[row].tolist()


def test_validation_texts_of_another_file_than_was_encoded_are_refused(folder: Path) -> None:
    config = config_of(folder)
    digests = FileDigests()
    tokenizers = build_tokenizers(config, digests)
    validation = encode_data(config, tokenizers, digests).validation
    (folder / "dev.tsv").write_text("ba\tzy\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"dev\.tsv: the file changed while it was in use"):
        validation_texts(config, validation, tokenizers, digests)


def test_corpus_texts_are_those_of_the_file(folder: Path) -> None:
    corpora = config_of(folder).data.validation
    assert corpora is not None
    assert corpus_texts(corpora) == (["ba", "b  a"], ["zy", "x z"])


@pytest.mark.parametrize("kind", ["text", "lines"])
def test_texts_of_continuation_are_cut_in_two(folder: Path, kind: str) -> None:
    config = config_of(
        folder,
        task="continuation",
        data={"train": {kind: str(folder / "text.txt")}, "holdout": 1},
    )
    digests = FileDigests()
    tokenizers = build_tokenizers(config, digests)
    assert isinstance(build_network(config, tokenizers), LanguageModel)
    validation = encode_data(config, tokenizers, digests).validation
    texts = validation_texts(config, validation, tokenizers, digests)
    joined = [a + b for a, b in zip(*texts, strict=True)]
    if kind == "lines":
        assert len(joined) == len(validation)
        assert set(joined) < set(NUMBERS)
    else:
        text = tokenizers.target.decode([validation.target[0].tolist()])[0]
        assert "".join(joined) == text
    assert all(texts.sources)
