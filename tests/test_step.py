"""A step of training: the loss, the gradient and the order of the rows."""

import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from trainers import Batch, make_trainer, random_rows, random_texts, without_network

from seq2seq_kit.archive import load_archive
from seq2seq_kit.data import streams
from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.data.streams import StreamSet

pytestmark = pytest.mark.usefixtures("short_epochs")


def test_loss_is_the_mean_over_real_tokens_regardless_of_padding(tmp_path: Path) -> None:
    trainers = [
        make_trainer(
            tmp_path / str(size), batch_size=size, learning_rate=1e-20, label_smoothing=0.0
        )
        for size in (1, 7)
    ]
    for trainer in trainers:
        trainer.fit()
    for key, is_train in (("loss", True), ("val_loss", False)):
        expected = mean_loss_row_by_row(trainers[0].model, random_rows(seed=is_train))
        found = [trainer.history[0][key] for trainer in trainers]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def mean_loss_row_by_row(model: keras.Model, rows: EncodedData) -> float:
    """Nats a target token, each row alone and unpadded, as a language model sees it."""
    texts = [rows.ids[begin:end] for begin, end in zip(rows.begins, rows.ends, strict=True)]
    return mean_loss(model, [[*ids.astype(int), 3] for ids in texts])


def mean_loss(model: keras.Model, targets: Sequence[Sequence[int]]) -> float:
    """Nats a token of target rows, each read from BOS on."""
    total, count = 0.0, 0
    for row in targets:
        logits = model({"decoder_input_ids": np.array([[2, *row[:-1]]])})
        ids = np.array([row])
        losses = keras.losses.sparse_categorical_crossentropy(ids, logits, from_logits=True)
        total, count = total + float(tf.reduce_sum(losses)), count + ids.size
    return total / count


def test_streams_have_the_loss_of_texts_read_from_beginning_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing but the windows, and the place where the epoch begins, cuts the texts.
    monkeypatch.setattr(streams, "_RESTARTS", 0.0)
    trainer = make_trainer(
        tmp_path, reads_streams=True, batch_size=1, learning_rate=1e-20, label_smoothing=0.0
    )
    for variable in trainer.model.trainable_variables:  # So large that states make a difference.
        variable.assign(8.0 * variable)
    trainer.fit()
    found = trainer.history[0]
    whole = mean_loss_row_by_row(trainer.model, random_texts(0))
    assert found["val_loss"] == pytest.approx(whole, rel=1e-5)
    # In training, the epoch begins within a text.
    texts = random_texts(1)
    plan = StreamSet(texts, 8, 1, "sentences", 1, shuffle=True).plan(0)
    fields = (plan.begins, plan.lengths, plan.restarts, plan.ends_text)
    read: list[list[int]] = []
    for (begin,), (length,), (restarts,), (ends,) in zip(*fields, strict=True):
        if restarts:
            read.append([])
        read[-1] += [*texts.ids[begin : begin + length - ends].astype(int), *[3] * int(ends)]
    assert len(read) == 4
    assert found["loss"] == pytest.approx(mean_loss(trainer.model, read), rel=1e-5)


def test_each_epoch_shows_every_row_once_in_a_different_order(tmp_path: Path) -> None:
    epochs: list[list[tuple[int, ...]]] = [[], []]

    def train(batch: Batch) -> float:
        for row, real in zip(batch["target_ids"].numpy(), batch["weights"].numpy(), strict=True):
            epochs[trainer.state.epoch].append(tuple(row[real > 0].tolist()))
        return 1.0

    trainer = make_trainer(tmp_path, epochs=2, steps=without_network(train=train))
    trainer.fit()
    rows = random_rows(seed=True)
    expected = [(*rows.ids[a:b].tolist(), 3) for a, b in zip(rows.begins, rows.ends, strict=True)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(expected)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("reads_streams", [False, True])
def test_two_replicas_end_with_the_loss_of_one(tmp_path: Path, reads_streams: bool) -> None:
    script = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]}
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
import json, pathlib
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
from seq2seq_kit.training.distribution import make_strategy
from trainers import make_trainer
strategy = make_strategy("mirrored")
folder = pathlib.Path(sys.argv[1])
# Every random mask here is drawn for the whole batch, so that the replicas must draw the same.
model = dict(weight_drop=0.3, embedding_dropout=0.3, layer_normalization=True)
options = dict(
    model=model, epochs=1, batch_size=5, validate_every=2, clip_norm=0.1, weight_decay=0.1,
    averaging="ema", averaging_decay=0.6, schedule="cosine",
    reads_streams={reads_streams},
)
two = make_trainer(folder / "two", strategy=strategy, **options)
two.fit()
one = make_trainer(folder / "one", **options)
one.fit()
print(json.dumps([strategy.num_replicas_in_sync, two.history, one.history]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    replicas, two, one = json.loads(ended.stdout)
    assert replicas == 2
    for key in ("loss", "val_loss"):
        found, expected = ([record[key] for record in history] for history in (two, one))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # The states of all rows are saved in the order of the rows.
    states = [load_archive(tmp_path / name / "last.npz").arrays for name in ("two", "one")]
    names = [name for name in states[0] if name.startswith("CarriedStates")]
    assert len(names) == 2 * reads_streams
    for name in names:
        assert states[0][name].shape == (5, 8)
        np.testing.assert_allclose(states[0][name], states[1][name], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "reads_streams"),
    [("encoder_decoder", False), ("language_model", False), ("language_model", True)],
)
def test_two_equal_passes_train_as_one_does(tmp_path: Path, kind: str, reads_streams: bool) -> None:
    """Without dropout, R-Drop has nothing to compare."""
    one, two = (
        make_trainer(tmp_path / str(r_drop), kind=kind, reads_streams=reads_streams, r_drop=r_drop)
        for r_drop in (0.0, 5.0)
    )
    for trainer in (one, two):
        trainer.fit()
    for key in ("loss", "val_loss"):
        found, expected = ([record[key] for record in t.history] for t in (two, one))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_are_clipped_to_the_global_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    for clip_norm in (1e-3, 1e3, 1e6):
        trainer = make_trainer(tmp_path / str(clip_norm), clip_norm=clip_norm)
        norm = tf.Variable(0.0)

        def note_norm(
            gradients: Sequence[tf.Tensor], variables: Any, norm: tf.Variable = norm
        ) -> None:
            norm.assign(tf.linalg.global_norm(gradients))

        monkeypatch.setattr(trainer.model.optimizer, "apply", note_norm)
        trainer.fit()
        norms.append(float(norm))
    np.testing.assert_allclose(norms[0], 1e-3, rtol=1e-4)
    assert 1e-3 < norms[1] == norms[2], "a gradient that is short enough stays as it is"


def test_penalties_are_in_the_gradient_and_not_in_the_loss_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for rates in ((0.0, 0.0), (2.0, 3.0)):
        trainer = make_trainer(
            tmp_path / str(rates),
            batch_size=99,
            clip_norm=1e9,
            label_smoothing=0.0,
            activation_regularization=rates[0],
            temporal_activation_regularization=rates[1],
        )
        steps, optimizer = trainer._steps, trainer.model.optimizer
        gradients = [tf.Variable(tf.zeros(v.shape)) for v in trainer.model.trainable_variables]

        def keep(parts: Sequence[tf.Tensor], _: Any, kept: Sequence[tf.Variable]) -> None:
            for variable, part in zip(kept, parts, strict=True):
                variable.assign(part)

        monkeypatch.setattr(optimizer, "apply", functools.partial(keep, kept=gradients))
        (batch,) = steps.batches(trainer._train_set, trainer._train_set.plan(0))
        found.append((steps.train(batch)[0], gradients))
    (plain_loss, plain), (loss, penalized) = found
    assert loss == plain_loss
    model, weights = trainer.model, batch["weights"].numpy()
    with tf.GradientTape() as tape:
        outputs, _ = model.lstm(model.embedding(batch["decoder_input_ids"]))
        penalty = tf.constant(0.0)
        for row, time in zip(*np.nonzero(weights), strict=True):
            penalty += 2.0 * tf.reduce_mean(outputs[row, time] ** 2)
            if time:
                change = outputs[row, time] - outputs[row, time - 1]
                penalty += 3.0 * tf.reduce_mean(change**2)
        penalty /= weights.sum()
    expected = tape.gradient(penalty, model.trainable_variables)
    for one, other, part in zip(plain, penalized, expected, strict=True):
        part = 0.0 if part is None else tf.convert_to_tensor(part)
        np.testing.assert_allclose(other, one + part, atol=1e-6)
