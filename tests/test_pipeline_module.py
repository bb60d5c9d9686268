"""From config sections to objects: tokenizers and their cache, batches, networks, examples."""

from pathlib import Path
from typing import Any

import pytest

from seq2seq_kit import pipeline
from seq2seq_kit.config import Config, load_config
from seq2seq_kit.model import EncoderDecoder, LanguageModel
from seq2seq_kit.run_folder import RunFolder
from seq2seq_kit.tokenizer import Tokenizer

NUMBERS = [f"{number:06b}" for number in range(40)]
PAIRS = [(n.translate({48: "a", 49: "b"}), n.translate({48: "x", 49: "yz"})) for n in NUMBERS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = "".join(f"{source}\t{target}\n" for source, target in PAIRS)
    (tmp_path / "train.tsv").write_text(lines, encoding="utf-8")
    (tmp_path / "dev.tsv").write_text("ba\tzy\nb  a\tx z\n", encoding="utf-8")
    (tmp_path / "text.txt").write_text("\n".join(NUMBERS), encoding="utf-8")
    return tmp_path


def config_of(folder: Path, **sections: Any) -> Config:
    small = {"type": "char", "vocab_size": 40, "byte_fallback": False}
    data = {"root": str(folder), "train": "train.tsv", "validation": "dev.tsv"}
    values = {"data": data, "tokenizer": small, "model": {"units": 8, "embedding_dim": 4}}
    return load_config(values | sections)


def letters(tokenizer: Tokenizer) -> set[str]:
    return set("".join(tokenizer.pieces[4:])) & set("abxyz")


def test_one_tokenizer_learns_both_sides(folder: Path) -> None:
    tokenizers = pipeline.build_tokenizers(config_of(folder))
    assert tokenizers.source is tokenizers.target
    assert letters(tokenizers.target) == set("abxyz")


def test_two_tokenizers_learn_a_side_each(folder: Path) -> None:
    side = {"type": "char", "vocab_size": 40, "byte_fallback": False}
    bpe = side | {"type": "bpe", "vocab_size": 12}
    tokenizers = pipeline.build_tokenizers(
        config_of(folder, tokenizer={"source": side, "target": bpe})
    )
    assert letters(tokenizers.source) == set("ab")
    assert letters(tokenizers.target) == set("xyz")
    assert max(map(len, tokenizers.source.pieces[4:])) == 1
    assert max(map(len, tokenizers.target.pieces[4:])) > 1


def test_a_ready_tokenizer_is_taken_as_it_is(folder: Path) -> None:
    ready = Tokenizer.train(["uvw"] * 9, type="char", vocab_size=8, byte_fallback=False)
    ready.save(folder / "ready.model")
    config = config_of(folder, tokenizer={"model": str(folder / "ready.model")})
    assert pipeline.build_tokenizers(config).source.fingerprint == ready.fingerprint


def test_a_tokenizer_is_trained_once_for_the_same_texts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*args: Any, **options: Any) -> None:
        raise AssertionError("trained again")

    first = pipeline.build_tokenizers(config_of(folder))
    monkeypatch.setattr(Tokenizer, "train", train)
    again = pipeline.build_tokenizers(config_of(folder))
    assert again.source.fingerprint == first.source.fingerprint
    (folder / "train.tsv").write_text("other\ttexts\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="trained again"):
        pipeline.build_tokenizers(config_of(folder))


@pytest.mark.parametrize("sides", [1, 2])
def test_tokenizers_of_a_run_are_loaded_as_saved(tmp_path: Path, sides: int) -> None:
    trained = [
        Tokenizer.train([text] * 9, type="char", vocab_size=8, byte_fallback=False)
        for text in ("abc", "xyz")[:sides]
    ]
    run = RunFolder(tmp_path)
    pipeline.save_tokenizers(pipeline.Tokenizers(trained[0], trained[-1]), run)
    loaded = pipeline.load_tokenizers(run)
    assert [loaded.source.fingerprint, loaded.target.fingerprint] == [
        trained[0].fingerprint,
        trained[-1].fingerprint,
    ]
    assert (loaded.source is loaded.target) == (sides == 1)


def test_validation_data_are_those_named_or_held_out(folder: Path) -> None:
    named = config_of(folder)
    data = pipeline.prepare_data(named, pipeline.build_tokenizers(named))
    assert (len(data.train), len(data.validation)) == (40, 2)
    held_out = config_of(folder, data={"root": str(folder), "train": "train.tsv", "holdout": 4})
    data = pipeline.prepare_data(held_out, pipeline.build_tokenizers(held_out))
    assert len(data.train) + len(data.validation) == 40
    assert 1 <= len(data.validation) <= 4


def test_batches_follow_the_config(folder: Path) -> None:
    training = {"batch_size": 160, "batch_unit": "tokens"}
    config = config_of(folder, training=training, seed=7)
    data = pipeline.prepare_data(config, pipeline.build_tokenizers(config))
    batches = pipeline.batch_set(config, data.train, shuffle=True)
    found = (batches.batch_size, batches.batch_unit, batches.seed, batches.shuffle, batches.window)
    assert found == (160, "tokens", 7, True, 64)
    assert batches.architecture == "encoder_decoder"


def test_the_network_fits_the_tokenizers(folder: Path) -> None:
    side = {"type": "char", "vocab_size": 40, "byte_fallback": False}
    for sections, shared in (({}, True), ({"tokenizer": {"source": side, "target": side}}, False)):
        config = config_of(folder, **sections)
        tokenizers = pipeline.build_tokenizers(config)
        model = pipeline.network(config, tokenizers, use_cudnn=False)
        assert isinstance(model, EncoderDecoder)
        assert model.vocab_size == tokenizers.target.vocab_size
        assert model.source_vocab_size == (None if shared else tokenizers.source.vocab_size)
        assert model.use_cudnn is False


def test_examples_of_pairs_are_their_two_sides(folder: Path) -> None:
    config = config_of(folder)
    tokenizers = pipeline.build_tokenizers(config)
    validation = pipeline.prepare_data(config, tokenizers).validation
    # As the model sees them: the tokenizer joins spaces.
    examples = pipeline.validation_examples(validation, tokenizers)
    assert examples == pipeline.Examples(["ba", "b a"], ["zy", "x z"])
    assert pipeline.corpus_examples(config.data.validation) == (["ba", "b  a"], ["zy", "x z"])


@pytest.mark.parametrize("kind", ["text", "lines"])
def test_examples_of_continuation_are_cut_in_two(folder: Path, kind: str) -> None:
    config = config_of(
        folder,
        task="continuation",
        data={"train": {kind: str(folder / "text.txt")}, "holdout": 1},
    )
    tokenizers = pipeline.build_tokenizers(config)
    assert isinstance(pipeline.network(config, tokenizers), LanguageModel)
    validation = pipeline.prepare_data(config, tokenizers).validation
    examples = pipeline.validation_examples(validation, tokenizers)
    joined = [a + b for a, b in zip(*examples, strict=True)]
    if kind == "lines":
        assert len(joined) == len(validation)
        assert set(joined) < set(NUMBERS)
    else:
        text = tokenizers.target.decode([validation.target[0].tolist()])[0]
        assert "".join(joined) == text
    assert all(examples.sources)
