"""From config sections to objects: tokenizers and their cache, batches, networks, examples."""

import gzip
import random
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from seq2seq_kit.config import Config, load_config, load_saved_config
from seq2seq_kit.data.sets import batch_set, encode_data, learn_shortlist
from seq2seq_kit.data.texts import TextPairs, corpus_texts, validation_texts
from seq2seq_kit.data.tokenizers import build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import RunError
from seq2seq_kit.model.build import build_network
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training.run_files import changed_data, load_shortlist, load_tokenizers, save_run
from seq2seq_kit.training.run_folder import RunFolder

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
    tokenizers = build_tokenizers(config_of(folder), FileDigests())
    assert tokenizers.source is tokenizers.target
    assert letters(tokenizers.target) == set("abxyz")


def test_two_tokenizers_learn_a_side_each(folder: Path) -> None:
    side = {"type": "char", "vocab_size": 40, "byte_fallback": False}
    bpe = side | {"type": "bpe", "vocab_size": 12}
    tokenizers = build_tokenizers(
        config_of(folder, tokenizer={"source": side, "target": bpe}), FileDigests()
    )
    assert letters(tokenizers.source) == set("ab")
    assert letters(tokenizers.target) == set("xyz")
    assert max(map(len, tokenizers.source.pieces[4:])) == 1
    assert max(map(len, tokenizers.target.pieces[4:])) > 1


def test_a_ready_tokenizer_is_taken_as_it_is(folder: Path) -> None:
    ready = Tokenizer.train(["uvw"] * 9, type="char", vocab_size=8, byte_fallback=False)
    ready.save(folder / "ready.model")
    config = config_of(folder, tokenizer={"model": str(folder / "ready.model")})
    assert build_tokenizers(config, FileDigests()).source.fingerprint == ready.fingerprint


def test_a_tokenizer_is_trained_once_for_the_same_texts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*args: Any, **options: Any) -> None:
        raise AssertionError("trained again")

    first = build_tokenizers(config_of(folder), FileDigests())
    monkeypatch.setattr(Tokenizer, "train", train)
    again = build_tokenizers(config_of(folder), FileDigests())
    assert again.source.fingerprint == first.source.fingerprint
    (folder / "train.tsv").write_text("other\ttexts\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="trained again"):
        build_tokenizers(config_of(folder), FileDigests())


def saved_run(folder: Path, *, two_vocabularies: bool = False, **sections: Any) -> RunFolder:
    """A run folder as `fit` leaves it before the first step."""
    small = {"type": "char", "vocab_size": 12, "byte_fallback": False}
    tokenizer: Any = {"source": small, "target": small} if two_vocabularies else small
    config = config_of(folder, tokenizer=tokenizer, **sections)
    run = RunFolder(folder / "run")
    run.path.mkdir(exist_ok=True)
    tokenizers = build_tokenizers(config, FileDigests())
    data = encode_data(config, tokenizers, FileDigests())
    shortlist = learn_shortlist(config, data.train, tokenizers)
    save_run(run, config, tokenizers, shortlist, FileDigests(), None)
    return run


@pytest.mark.parametrize("sides", [1, 2])
def test_tokenizers_of_a_run_are_loaded_as_saved(folder: Path, sides: int) -> None:
    run = saved_run(folder, two_vocabularies=sides == 2)
    saved = load_saved_config(run.config)
    loaded = load_tokenizers(run, saved)
    built = build_tokenizers(saved.config, FileDigests())
    assert [one.fingerprint for one in loaded] == [one.fingerprint for one in built]
    assert (loaded.source is loaded.target) == (sides == 1)
    assert (loaded.source.fingerprint == loaded.target.fingerprint) == (sides == 1)


def test_vocabularies_that_an_earlier_attempt_left_are_not_used(folder: Path) -> None:
    saved_run(folder, two_vocabularies=True)
    run = saved_run(folder)
    assert run.tokenizer("source").exists()
    loaded = load_tokenizers(run, load_saved_config(run.config))
    assert loaded.source is loaded.target


def load_start(run: RunFolder) -> tuple[Any, ...]:
    """All that a run is given at its start, as it is loaded."""
    saved = load_saved_config(run.config)
    tokenizers = load_tokenizers(run, saved)
    shortlist = load_shortlist(run, saved, tokenizers)
    assert shortlist is not None
    arrays = shortlist.frequent.tobytes(), shortlist.translations.tobytes()
    return saved.config, tokenizers.source.fingerprint, tokenizers.target.fingerprint, *arrays


@pytest.mark.parametrize("name", ["config.yaml", "source.model", "target.model", "shortlist.npz"])
def test_a_flipped_bit_is_never_loaded(folder: Path, name: str) -> None:
    run = saved_run(folder, two_vocabularies=True)
    load_start(run)
    content = (run.path / name).read_bytes()
    for place in random.Random(name).sample(range(8 * len(content)), 40):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        (run.path / name).write_bytes(changed)
        with pytest.raises(RunError, match=re.escape(name)):
            load_start(run)


def test_files_of_different_runs_do_not_go_together(folder: Path) -> None:
    run = saved_run(folder)
    names = "shared.model", "shortlist.npz"
    kept = {name: (run.path / name).read_bytes() for name in names}
    other = "".join(f"{source}ba\t{target}w\n" for source, target in PAIRS)
    (folder / "train.tsv").write_text(other, encoding="utf-8")
    run = saved_run(folder)
    for name, content in kept.items():
        own = (run.path / name).read_bytes()
        (run.path / name).write_bytes(content)
        with pytest.raises(RunError, match=rf"{name} is damaged or of another run"):
            load_start(run)
        (run.path / name).write_bytes(own)
    load_start(run)


def test_an_edited_config_is_refused_unless_its_digest_is_removed(folder: Path) -> None:
    run = saved_run(folder)
    text = run.config.read_text(encoding="utf-8")
    edited = text.replace("beam_size: 5", "beam_size: 2")
    assert edited != text
    run.config.write_text(edited, encoding="utf-8")
    with pytest.raises(RunError, match=r"it was edited, or is damaged\. To keep an edit, remove"):
        load_start(run)
    run.config.write_text(edited.partition("\n...\n")[0] + "\n...\n", encoding="utf-8")
    assert load_saved_config(run.config).config.decoding.beam_size == 2
    load_start(run)
    run.config.write_bytes(text.replace("\n", "\r\n").encode())  # As some tools copy texts.
    assert load_saved_config(run.config).config.decoding.beam_size == 5


def test_contents_decide_whether_data_are_the_same(folder: Path) -> None:
    run = saved_run(folder)
    saved = load_saved_config(run.config)
    moved = folder.parent / "moved"
    shutil.copytree(folder, moved)
    (moved / "train.tsv").write_bytes(gzip.compress((folder / "train.tsv").read_bytes()))
    assert changed_data(run, config_of(moved), saved, FileDigests()) == []
    (moved / "dev.tsv").write_text("other\ttext\n", encoding="utf-8")
    assert changed_data(run, config_of(moved), saved, FileDigests()) == [str(moved / "dev.tsv")]


@pytest.mark.parametrize("damage", [None, b"", b"{}", b'{"data.train.tsv": "0"}'])
def test_data_are_known_without_data_json_as_long_as_they_are_the_same(
    folder: Path, damage: bytes | None
) -> None:
    run = saved_run(folder)
    saved = load_saved_config(run.config)
    run.data.unlink()
    if damage is not None:
        run.data.write_bytes(damage)
    assert changed_data(run, config_of(folder), saved, FileDigests()) == []
    (folder / "train.tsv").write_text("other\ttext\n" * 40, encoding="utf-8")
    try:
        assert changed_data(run, config_of(folder), saved, FileDigests())
    except RunError as error:
        assert "data.json" in str(error)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_tokenizer_of_the_cache_is_trained_again(
    folder: Path, cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(folder, seed=7, tokenizer={"type": "char", "vocab_size": 290})
    before = set(cache.iterdir())
    first = build_tokenizers(config, FileDigests())
    (path,) = set(cache.iterdir()) - before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    flipped = content[:200] + bytes([content[200] ^ 4]) + content[201:]
    path.write_bytes({"flip": flipped, "cut": content[:-9], "empty": b""}[damage])
    again = build_tokenizers(config, FileDigests())
    assert again.source.fingerprint == first.source.fingerprint
    assert path.read_bytes() == content
    assert "is damaged; making it again" in caplog.text
    path.unlink()


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


def test_the_network_fits_the_tokenizers(folder: Path) -> None:
    side = {"type": "char", "vocab_size": 40, "byte_fallback": False}
    for sections, shared in (({}, True), ({"tokenizer": {"source": side, "target": side}}, False)):
        config = config_of(folder, **sections)
        tokenizers = build_tokenizers(config, FileDigests())
        model = build_network(config, tokenizers, use_cudnn=False)
        assert isinstance(model, EncoderDecoder)
        assert model.vocab_size == tokenizers.target.vocab_size
        assert model.source_vocab_size == (None if shared else tokenizers.source.vocab_size)
        assert model.use_cudnn is False


def test_examples_of_pairs_are_their_two_sides(folder: Path) -> None:
    config = config_of(folder)
    tokenizers = build_tokenizers(config, FileDigests())
    validation = encode_data(config, tokenizers, FileDigests()).validation
    # As the model sees them: the tokenizer joins spaces.
    examples = validation_texts(validation, tokenizers)
    assert examples == TextPairs(["ba", "b a"], ["zy", "x z"])
    assert corpus_texts(config.data.validation) == (["ba", "b  a"], ["zy", "x z"])


@pytest.mark.parametrize("kind", ["text", "lines"])
def test_examples_of_continuation_are_cut_in_two(folder: Path, kind: str) -> None:
    config = config_of(
        folder,
        task="continuation",
        data={"train": {kind: str(folder / "text.txt")}, "holdout": 1},
    )
    tokenizers = build_tokenizers(config, FileDigests())
    assert isinstance(build_network(config, tokenizers), LanguageModel)
    validation = encode_data(config, tokenizers, FileDigests()).validation
    examples = validation_texts(validation, tokenizers)
    joined = [a + b for a, b in zip(*examples, strict=True)]
    if kind == "lines":
        assert len(joined) == len(validation)
        assert set(joined) < set(NUMBERS)
    else:
        text = tokenizers.target.decode([validation.target[0].tolist()])[0]
        assert "".join(joined) == text
    assert all(examples.sources)
