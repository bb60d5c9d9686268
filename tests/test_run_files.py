"""The files that a run starts with: written, loaded, and refused when damaged or foreign."""

import gzip
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_config import PAIRS, config_of

from seq2seq_kit.config import load_saved_config
from seq2seq_kit.data.sets import encode_data, learn_shortlist
from seq2seq_kit.data.tokenizers import build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import RunError
from seq2seq_kit.training.run_files import changed_data, load_shortlist, load_tokenizers, save_run
from seq2seq_kit.training.run_folder import RunFolder


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
    (changed,) = changed_data(run, config_of(moved), saved, FileDigests())
    trained_on = folder / "dev.tsv"
    assert changed == (
        f"data.validation.tsv: {trained_on} then, {moved / 'dev.tsv'} with other contents now"
    )


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
