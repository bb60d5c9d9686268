"""What tests share: a quiet TensorFlow, a separate cache, trained runs and a stand-in."""

import gc
import io
import itertools
import logging
import random
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from backwards import Backwards
from small_config import write_texts

import seq2seq_kit
from seq2seq_kit.startup import load_tensorflow

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq

load_tensorflow()  # Before a test module imports it.

# Tracing makes many small objects. Python would look through all that TensorFlow imported, and
# through every graph there is, again and again.
gc.freeze()
gc.set_threshold(20_000, 20, 20)

# A shell without job control starts background jobs with Ctrl-C ignored, and processes inherit
# that: the tests of Ctrl-C would then wait for a signal that never comes.
signal.signal(signal.SIGINT, signal.default_int_handler)

ALPHABET = "abcde"
CYCLE = "one two three four five six seven\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow the tests that wait for a trained run."""
    for item in items:
        if {"translation_run", "continuation_run"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


class TrainedRun(NamedTuple):
    """A run folder and the object that training gave."""

    path: Path
    fitted: "Seq2Seq"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keeps the tests out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2S_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def unseen_words() -> list[str]:
    """Words that the translation run has not seen in training."""
    return shuffled_words()[:60]


@pytest.fixture(scope="session")
def translation_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with words of up to four letters and their reversals, train.tsv and dev.tsv."""
    folder = tmp_path_factory.mktemp("reversal")
    words = shuffled_words()
    for name, chosen in (("train", words[60:]), ("dev", words[:60])):
        lines = "".join(f"{word}\t{word[::-1]}\n" for word in chosen)
        (folder / f"{name}.tsv").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture
def translation_config(translation_files: Path) -> dict[str, Any]:
    """A config that learns to reverse words, with sizes that train in seconds.

    The results are of greedy search, whose graph is traced soonest.
    """
    config = reversal(translation_files)
    config["decoding"]["beam_size"] = 1
    return config


@pytest.fixture(scope="session")
def translation_run(
    translation_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedRun:
    from seq2seq_kit.seq2seq import Seq2Seq

    path = tmp_path_factory.mktemp("runs") / "translation"
    config, overrides = reversal(translation_files), ["training.report=true"]
    return TrainedRun(path, Seq2Seq.fit(config, overrides=overrides, run_dir=path))


@pytest.fixture(scope="session")
def translation_export(
    translation_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An export of the translation run with its own options."""
    import keras

    # What a notebook may do at any time.
    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("exports") / "translation"
    translation_run.fitted.export(path)
    return path


@pytest.fixture(scope="session")
def continuation_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A language model that has read the same line again and again."""
    from seq2seq_kit.seq2seq import Seq2Seq

    folder = tmp_path_factory.mktemp("counting")
    (folder / "text.txt").write_text(60 * CYCLE, encoding="utf-8")
    config = {
        "task": "continuation",
        "data": {"train": {"text": str(folder / "text.txt")}, "window": 24},
        "tokenizer": {"type": "char", "vocab_size": 40, "byte_fallback": False},
        "model": {"embedding_dim": 16, "units": 32, "dropout": 0.0, "init_scale": 0.3},
        "training": {"epochs": 12, "batch_size": 8, "validate_every": 5, **FAST},
        "decoding": {"max_length": 20, "max_loop_characters": 0},
    }
    return TrainedRun(folder / "run", Seq2Seq.fit(config, run_dir=folder / "run"))


@pytest.fixture(scope="session")
def deep_model(tmp_path_factory: pytest.TempPathFactory) -> "Seq2Seq":
    """A translator with fresh weights that has layers of all kinds; nobody may change it."""
    from untrained import untrained_model

    layers = {"encoder_layers": 2, "decoder_layers": 2, "attention_layer": "first"}
    folder = tmp_path_factory.mktemp("deep_model")
    return untrained_model(folder, model=layers | {"layer_normalization": True})


FAST = {
    "learning_rate": 0.01,
    "label_smoothing": 0.0,
    "plateau_patience": 4,
    "validation_samples": 0,
    "tensorboard": False,
    "report": False,
}


def shuffled_words() -> list[str]:
    words = ["".join(w) for size in (1, 2, 3, 4) for w in itertools.product(ALPHABET, repeat=size)]
    random.Random(1).shuffle(words)
    return words


def reversal(files: Path) -> dict[str, Any]:
    return {
        "data": {
            "train": {"tsv": str(files / "train.tsv")},
            "validation": {"tsv": str(files / "dev.tsv")},
        },
        "tokenizer": {"type": "char", "vocab_size": 16, "byte_fallback": False},
        "model": {
            "embedding_dim": 16,
            "units": 32,
            "attention": "additive",
            "dropout": 0.0,
            "init_scale": 0.3,
        },
        "training": {"epochs": 10, "batch_size": 32, "validate_every": 23, **FAST},
        "decoding": {"max_length": 12},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the corpora of `small_config`."""
    write_texts(tmp_path)
    return tmp_path


@pytest.fixture
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs end with a validation, even those of four steps in `trainers`."""
    from seq2seq_kit.config import sections

    monkeypatch.setattr(sections, "MIN_STEPS_TO_VALIDATION", 1)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Takes off the handlers that a command put on, which write to this test's captured stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> Backwards:
    """Stands for `Seq2Seq.load` of any folder; TensorFlow stays out."""

    fake = Backwards()
    # Where `from seq2seq_kit import Seq2Seq` finds it before it imports TensorFlow.
    seq2seq = types.SimpleNamespace(load=lambda _path: fake)
    monkeypatch.setitem(vars(seq2seq_kit), "Seq2Seq", seq2seq)
    monkeypatch.setattr("seq2seq_kit.startup.load_tensorflow", lambda: None)
    return fake


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets the bytes of standard input."""

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))

    return give


@pytest.fixture
def answers(backwards: Backwards, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The references that `evaluate` was called with; every score is a log-probability of -2."""
    from seq2seq_kit.inference.evaluation import compare_texts
    from seq2seq_kit.inference.scorer import Score

    seen: list[list[str]] = []

    def evaluate(
        sources: Sequence[str],
        references: Sequence[Sequence[str]],
        *,
        tokenize: str | None,
        truncate: bool,
        **options: Any,
    ) -> Any:
        assert truncate
        backwards.calls.append(options)
        seen.extend([source, *texts] for source, texts in zip(sources, references, strict=True))
        scores = compare_texts(
            [source[::-1] for source in sources], references, tokenize=tokenize or "13a"
        )
        return replace(scores, cut_outputs=sum(source.startswith("~") for source in sources))

    def score(
        sources: Sequence[str], targets: Sequence[str], *, threads: int = 0, truncate: bool
    ) -> list[Score]:
        assert truncate
        return [Score(-2.0, len(target)) for _, target in zip(sources, targets, strict=True)]

    monkeypatch.setattr(backwards, "evaluate", evaluate, raising=False)
    monkeypatch.setattr(backwards, "score", score, raising=False)
    return seen
