"""Paired bootstrap resampling: sacrebleu's own numbers, and losses by a plain second way."""

import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.comparison import compare_losses, compare_outputs

WORDS = [*"abcdefg", "the", "cat", "sat", ",", "."]


def sentences(number: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(number)]


def garbled(lines: list[str], share: float, seed: int) -> list[str]:
    """The lines with a share of their words replaced."""
    rng = random.Random(seed)
    return [
        " ".join(rng.choice(WORDS) if rng.random() < share else word for word in line.split())
        for line in lines
    ]


def test_scores_and_p_values_are_those_of_sacrebleus_command_line(
    tmp_path: Path,
) -> None:
    references = sentences(60, seed=1)
    outputs = {"a": garbled(references, 0.3, 2), "b": garbled(references, 0.2, 3)}
    files = {"reference": references, **outputs}
    for name, lines in files.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    ours = compare_outputs(
        outputs, [[line] for line in references], tokenize="13a", samples=200, seed=7
    )
    command = [sys.executable, "-m", "sacrebleu", "reference", "-i", "a", "b", "-f", "text"]
    command += ["-m", "bleu", "chrf", "-w", "6", "--paired-bs", "--paired-bs-n", "200"]
    environment = {**os.environ, "SACREBLEU_SEED": "7", "PYTHONIOENCODING": "utf-8"}
    # A process: its `main` takes over the standard streams.
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    printed = ran.stdout.decode()
    scores = re.findall(r"(\d+\.\d{6}) \((\d+\.\d{6}) ± (\d+\.\d{6})\)", printed)
    p_values = re.findall(r"\(p = (0\.\d{4})\)", printed)
    measured = [ours.scores[metric][place] for place in (0, 1) for metric in ("bleu", "chrf")]
    assert scores == [
        tuple(f"{value:.6f}" for value in (one.score, one.mean, one.interval)) for one in measured
    ]
    assert p_values == [f"{one.p_value:.4f}" for one in measured[2:]]
    for signature in ours.signatures.values():
        assert signature in printed


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    outputs = {"a": ["x"], "b": ["y"]}
    compare_outputs(outputs, [["x"]], tokenize="13a", samples=100, seed=7)
    assert "SACREBLEU_SEED" not in os.environ


def test_exact_match_counts_any_reference() -> None:
    outputs = {"a": ["x", "y", "z", "w"], "b": ["x", "y", "u", "v"]}
    references = [["x"], ["q", "y"], ["u"], ["t"]]
    found = compare_outputs(outputs, references, tokenize="13a", samples=100, seed=1)
    assert [one.score for one in found.scores["exact_match"]] == [50.0, 75.0]


def test_equal_outputs_are_no_better() -> None:
    outputs = ["a b c d e", "f g h i j", "k l"]
    found = compare_outputs(
        {"one": outputs, "two": list(outputs)},
        [["a b c d"], ["f g h x j"], ["k l"]],
        tokenize="none",
        samples=100,
        seed=1,
    )
    assert {name: two.p_value for name, (_, two) in found.scores.items()} == {
        "bleu": 1.0,
        "chrf": 1.0,
        "exact_match": 1.0,
    }


def test_a_model_is_no_better_than_itself_and_better_than_a_worse_one() -> None:
    rng = np.random.default_rng(0)
    good = rng.uniform(5, 15, 80)
    characters = rng.integers(5, 20, 80).tolist()
    nats = {"good": good, "same": good, "worse": good + rng.uniform(0.5, 1.5, 80)}
    losses = {name: values.tolist() for name, values in nats.items()}
    found = compare_losses(losses, characters, samples=500, seed=3).scores["loss_per_character"]
    assert found[0].score == pytest.approx(good.sum() / sum(characters))
    assert found[0].p_value is None
    assert found[1].p_value == 1.0
    assert found[2].p_value == pytest.approx(1 / 501)


def test_the_p_value_of_two_lines_is_that_of_all_their_resamplings() -> None:
    # Of the four equally likely draws of two lines, differences are 2, -1 (both twice 0.5).
    nats = {"a": [1.0, 4.0], "b": [3.0, 3.0]}
    found = compare_losses(nats, [1, 1], samples=20_000, seed=5).scores["loss_per_character"]
    draws = [2.0, 0.5, 0.5, -1.0]
    mean_size = sum(map(abs, draws)) / 4
    expected = sum(abs(draw) - mean_size > abs(0.5) for draw in draws) / 4
    assert math.isclose(found[1].p_value or 0.0, expected, abs_tol=0.02)


@pytest.mark.parametrize(
    ("nats", "characters", "message"),
    [
        ({"a": [1.0]}, [1], "at least two systems"),
        ({"a": [1.0], "b": [1.0, 2.0]}, [1], "Received: 2 of b"),
        ({"a": [], "b": []}, [], "at least one line"),
    ],
)
def test_unequal_lines_are_errors(
    nats: dict[str, list[float]], characters: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        compare_losses(nats, characters, samples=100, seed=1)
