"""Reranking: the scores against the formula by hand, the tuning, and the command."""

import itertools
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backwards import Backwards

import seq2seq_kit
from seq2seq_kit import augmenting
from seq2seq_kit.cli import main
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.inference.reranking import Candidates, Judge, find_candidates, tune_weights
from seq2seq_kit.inference.scorer import Score

YES, NO, PERHAPS = "yes it is so", "no it is not", "perhaps it will be so"
NIL = "nil and nothing else"
BEAM = {"x": [(YES, -1.0), (NO, -2.0), (PERHAPS, -4.0)], "z": [(NIL, -1.5), ("", -3.0)]}


class Model:
    """A model with a beam for two inputs; what it says of a pair is in `said`."""

    def __init__(self, said: dict[tuple[str, str], float], task: str = "translation") -> None:
        decoding = Backwards.config.decoding.model_copy(update={"length_penalty": 1.0})
        self.config = Backwards.config.model_copy(update={"task": task, "decoding": decoding})
        self.tokenizer = types.SimpleNamespace(normalize=str.strip)
        self.said = said

    def hypotheses(
        self, texts: Sequence[str], *, num_hypotheses: int, **_: Any
    ) -> Iterator[list[Hypothesis]]:
        for text in texts:
            yield [
                # A token for each letter, and the end.
                Hypothesis(out, tuple(range(len(out) + 1)), p, p / penalty(out))
                for out, p in BEAM[text][:num_hypotheses]
            ]

    def score(self, sources: Sequence[str], targets: Sequence[str], **_: Any) -> list[Score]:
        return [Score(self.said[pair], 1) for pair in zip(sources, targets, strict=True)]


def penalty(text: str) -> float:
    return (5 + len(text) + 1) / 6


PAIRS = [(source, out) for source, beam in BEAM.items() for out, _ in beam]
FORWARD = Model({pair: -0.5 * n for n, pair in enumerate(PAIRS)})
REVERSE = Model({pair[::-1]: -3.0 + n for n, pair in enumerate(PAIRS)})
LANGUAGE = Model({("", out): -float(len(out)) for _, out in PAIRS}, "continuation")


def test_the_score_is_the_weighted_sum_under_the_length_penalty() -> None:
    judges = [
        Judge("forward", FORWARD),  # type: ignore[arg-type]
        Judge("reverse", REVERSE),  # type: ignore[arg-type]
        Judge("language_model", LANGUAGE),  # type: ignore[arg-type]
    ]
    found = find_candidates(FORWARD, judges, list(BEAM))  # type: ignore[arg-type]
    for weights in itertools.product((0.0, 0.3, 1.0), repeat=3):
        for source, one in zip(BEAM, found, strict=True):
            totals = {
                out: (
                    log_prob
                    + weights[0] * FORWARD.said[source, out]
                    + weights[1] * REVERSE.said[out, source]
                    + weights[2] * LANGUAGE.said["", out]
                )
                / penalty(out)
                for out, log_prob in BEAM[source]
            }
            assert one.best(weights) == max(totals, key=lambda out: totals[out])
    assert [one.best([0.0] * 3) for one in found] == [YES, NIL]


@pytest.mark.parametrize(
    ("kind", "model"), [("language_model", FORWARD), ("reverse", LANGUAGE), ("forward", LANGUAGE)]
)
def test_a_judge_of_another_kind_is_refused(kind: Any, model: Any) -> None:
    with pytest.raises(InputError, match="must be one for"):
        find_candidates(FORWARD, [Judge(kind, model)], ["x"])  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"sample": True}])
def test_there_must_be_a_beam_to_choose_from(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="outputs of a beam"):
        find_candidates(FORWARD, [], ["x"], **options)  # type: ignore[arg-type]


def made_up(seed: int) -> tuple[list[Candidates], Any]:
    """Candidates whose second judge knows the truth, roughly, and whose first knows nothing."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(50, 5))
    candidates = [
        Candidates(
            [str(n) for n in range(5)],
            rng.normal(size=5),
            np.stack([rng.normal(size=5), row + rng.normal(size=5) / 3], axis=1),
        )
        for row in truth
    ]
    return candidates, lambda texts: float(sum(truth[n, int(t)] for n, t in enumerate(texts)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tuning_finds_a_judge_that_knows(seed: int) -> None:
    candidates, quality = made_up(seed)
    weights = tune_weights(candidates, quality)
    tuned = quality([one.best(weights) for one in candidates])
    assert weights[1] > max(0.2, weights[0])
    # No change of one weight is better.
    for place, weight in itertools.product(range(2), (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)):
        tried = [*weights[:place], weight, *weights[place + 1 :]]
        assert quality([one.best(tried) for one in candidates]) <= tuned


def test_a_useless_judge_has_no_weight() -> None:
    candidates = [Candidates(["a", "b"], np.array([2.0, 1.0]), np.array([[0.0], [9.0]]))]
    assert tune_weights(candidates, lambda texts: float(texts == ["a"])) == [0.0]


@pytest.fixture
def models(backwards: Backwards, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = {"run": FORWARD, "back": REVERSE, "lm": LANGUAGE}
    monkeypatch.setattr(seq2seq_kit.Seq2Seq, "load", lambda path: by_name[Path(path).name])
    monkeypatch.setattr(augmenting, "identify", lambda runs: [str(run) for run in runs])


@pytest.mark.usefixtures("models")
def test_the_command_tunes_and_uses_weights(
    tmp_path: Path, stdin: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    source, reference, weights = (str(tmp_path / name) for name in ("s", "r", "w.json"))
    Path(source).write_text("x\nz\n")
    # The reverse model finds each output likelier than the one before it.
    Path(reference).write_text(f"{PERHAPS}\n{NIL}\n")
    judges = ["rerank", "run", "--reverse", "back", "--language-model", "lm"]
    assert main([*judges, "--source", source, "--reference", reference, "--tune", weights]) == 0
    printed = capsys.readouterr().out
    assert "language model: lm" in printed
    assert "BLEU" in printed
    stdin(b"x\nz\n")
    assert main([*judges, "--weights", weights]) == 0
    assert capsys.readouterr().out == f"{PERHAPS}\n{NIL}\n"
    assert main(["rerank", "run", "--reverse", "back", "--weights", weights]) == 2
    assert "--reverse back, --language-model lm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected models that judge"),
        (["--reverse", "b"], "either --tune or --weights"),
        (["--reverse", "b", "--tune", "t", "--weights", "w"], "either --tune or --weights"),
        (["--reverse", "b", "--tune", "t", "--source", "s"], "needs --source and --reference"),
        (["--reverse", "b", "--weights", "w", "--reference", "r"], "needs --source and"),
        (["--reverse", "b", "--weights", "none"], "none is damaged"),
    ],
)
@pytest.mark.usefixtures("models")
def test_wrong_usage_is_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rerank", "run", *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
