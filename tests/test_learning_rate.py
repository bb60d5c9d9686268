"""The learning-rate range test: its learning rates, its end, its suggestion and its command."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from small_config import write_texts
from trainers import VOCAB_SIZE, Batch, ScriptedSteps, random_rows

from seq2seq_kit import fitting
from seq2seq_kit.cli import main
from seq2seq_kit.config import TrainingConfig
from seq2seq_kit.data.plan import BatchSet
from seq2seq_kit.errors import RunError
from seq2seq_kit.model.networks import LanguageModel
from seq2seq_kit.training.learning_rate import HIGHEST, LOWEST, RangeTest, run_range_test


def find(loss_of: Callable[[float], float], num_steps: int = 100) -> RangeTest:
    """A range test whose loss is a function of the learning rate; an epoch has few steps."""
    network = LanguageModel(VOCAB_SIZE, embedding_dim=8, units=8)
    network.build()

    def train(_batch: Batch) -> float:
        return loss_of(float(network.optimizer.learning_rate.numpy()))

    strategy = tf.distribute.get_strategy()
    steps = ScriptedSteps(network, TrainingConfig(), strategy, losses=(), train=train)
    train_set = BatchSet(random_rows(330), "language_model", 8, 6, "sentences", 1, True)
    return run_range_test(steps, train_set, num_steps=num_steps)


def test_the_learning_rate_grows_by_the_same_factor_in_each_step() -> None:
    found = find(lambda _rate: 3.0, num_steps=30)
    assert (found.learning_rates[0], found.learning_rates[-1]) == pytest.approx((LOWEST, HIGHEST))
    factors = [b / a for a, b in zip(found.learning_rates, found.learning_rates[1:], strict=False)]
    assert factors == pytest.approx([1e5 ** (1 / 29)] * 29)
    assert found.losses == pytest.approx([3.0] * 30)


def test_a_tenth_of_the_learning_rate_with_the_lowest_loss_is_suggested() -> None:
    # A parabola over the logarithm, lowest at 0.03; smoothing shows it some steps later.
    found = find(lambda rate: 2.0 + 0.2 * math.log10(rate / 0.03) ** 2)
    assert 0.03 < found.lowest < 0.2
    assert found.suggestion == pytest.approx(found.lowest / 10, rel=0.05)


def test_the_test_ends_where_the_loss_diverges() -> None:
    found = find(lambda rate: 3.0 if rate < 0.1 else 30.0)
    assert 0.1 < found.learning_rates[-1] < 0.3
    not_finite = find(lambda rate: 3.0 if rate < 0.1 else math.nan)
    assert 0.08 < not_finite.learning_rates[-1] < 0.1
    assert all(map(math.isfinite, not_finite.losses))


def test_a_loss_that_never_was_finite_is_an_error() -> None:
    with pytest.raises(RunError, match=r"not finite after 0 steps, at a learning rate of 1e-05"):
        find(lambda _rate: math.nan)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config file in an otherwise empty folder, and a range test that has its result ready."""
    write_texts(tmp_path)
    (tmp_path / "my.yaml").write_text("data: {train: train.tsv}\n", encoding="utf-8")
    found = RangeTest([0.001, 0.01, 0.1], [3.0, 2.0, 4.0])
    monkeypatch.setattr(fitting, "find_learning_rate", lambda _config, *, overrides: found)
    monkeypatch.chdir(tmp_path)
    return Path("my.yaml")


def test_the_command_prints_a_suggestion_and_leaves_a_picture_and_no_run(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(config), "--find-learning-rate"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "0.001\n"
    assert "--set training.learning_rate=0.001" in captured.err
    assert [path.name for path in Path("runs").iterdir()] == ["my.learning-rate.svg"]
    assert "learning rate" in Path("runs", "my.learning-rate.svg").read_text(encoding="utf-8")


def test_a_resumed_run_has_no_first_weights(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(config), "--find-learning-rate", "--resume"]) == 2
    assert "no --resume" in capsys.readouterr().err
