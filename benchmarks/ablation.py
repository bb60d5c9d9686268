"""What each ingredient of training gives: one option at a time is changed, all else stays.

    python benchmarks/ablation.py CONFIG --data DIR --steps 20000 [--seeds 1 2] [--only NAME ...]
        [--set KEY=VALUE ...] [--runs DIR]

CONFIG is a file of `benchmarks/configs`. Each setting is trained for the same number of steps with
each seed, and the best validation loss counts. Prints a row for each setting: the loss of each
seed, the difference of their mean from the mean of the plain config, and the time of a step beside
that of the plain config. Runs that `--runs` holds already are not trained again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from seq2seq_kit.startup import load_tensorflow

load_tensorflow()

from seq2seq_kit.config import Config, load_config  # noqa: E402
from seq2seq_kit.seq2seq import Seq2Seq  # noqa: E402

_PLAIN = "plain"

SETTINGS: dict[str, dict[str, Any]] = {
    _PLAIN: {},
    "half the dropout": {"model.dropout": "half"},
    "locked dropout": {"model.locked_dropout": True},
    "embedding dropout 0.1": {"model.embedding_dropout": 0.1},
    "word dropout 0.1": {"model.word_dropout": 0.1},
    "token noise 0.1": {"model.token_noise": 0.1},
    "weight drop 0.3": {"model.weight_drop": 0.3},
    "weight drop 0.5": {"model.weight_drop": 0.5},
    "subword sampling 0.2": {
        "training.subword_sampling": "both",
        "training.subword_sampling_alpha": 0.2,
    },
    "dropout grows for 1,000 steps": {"training.dropout_warmup_steps": 1000},
    "R-Drop 1": {"training.r_drop": 1.0},
    "R-Drop 5": {"training.r_drop": 5.0},
    "layer normalization": {"model.layer_normalization": True},
    "activation regularization": {
        "training.activation_regularization": 2.0,
        "training.temporal_activation_regularization": 1.0,
    },
    "weight decay 0.01": {"training.weight_decay": 0.01},
    "weight decay 0.1": {"training.weight_decay": 0.1},
    "cosine": {"training.schedule": "cosine", "training.warmup_steps": 200},
    "one cycle": {"training.schedule": "one_cycle"},
    "inverse square root": {"training.schedule": "inverse_sqrt", "training.warmup_steps": 400},
    "moving average": {"training.averaging": "ema"},
    "triggered average": {"training.averaging": "triggered"},
    "one layer": {"model.decoder_layers": 1},
    "three layers": {"model.decoder_layers": 3},
}

# Only for language models.
_OF_LANGUAGE_MODELS = ("activation regularization",)


class Result(NamedTuple):
    """What a run has reached."""

    loss: float
    """The best validation loss, nats per token."""
    seconds_per_step: float


def overrides_of(values: Mapping[str, Any], config: Config) -> list[str]:
    """Returns the overrides of a setting, as the command line takes them."""
    values = dict(values)
    if values.get("model.dropout") == "half":
        values["model.dropout"] = config.model.dropout / 2
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def train(config: Config, run: Path) -> Result:
    """Trains a run, unless it is there, and returns its result."""
    if not (run / "results.json").is_file():
        Seq2Seq.fit(config, run_dir=run)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    seconds = 60 * results["minutes"] / results["steps"]
    return Result(results["validation_loss"], seconds)


def row(name: str, results: Sequence[Result], plain: Sequence[Result]) -> str:
    """Returns a row of the table."""
    losses = ", ".join(f"{result.loss:.4f}" for result in results)
    change = mean(r.loss for r in results) - mean(r.loss for r in plain)
    time = mean(r.seconds_per_step for r in results) / mean(r.seconds_per_step for r in plain)
    return f"| {name} | {losses} | {change:+.4f} | {time:.2f} |"


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    options = parser.parse_args()
    shared = [
        f"data.root={options.data.absolute()}",
        "training.max_minutes=null",
        "training.epochs=null",
        f"training.max_steps={options.steps}",
        f"training.validate_every={max(options.steps // 20, 1)}",
        "training.early_stopping.patience=1000",
        "training.tensorboard=false",
        *options.overrides,
    ]
    base = load_config(options.config, shared)
    is_language_model = base.model.architecture == "language_model"
    names = [name for name in options.only if is_language_model or name not in _OF_LANGUAGE_MODELS]
    print("| setting | validation loss of each seed | change | time of a step |")
    print("| --- | --- | --- | --- |")
    plain: list[Result] = []
    for name in [_PLAIN, *(name for name in names if name != _PLAIN)]:
        results = []
        for seed in options.seeds:
            overrides = [*shared, f"seed={seed}", *overrides_of(SETTINGS[name], base)]
            run = options.runs / f"{name.replace(' ', '_')}_{seed}"
            results.append(train(load_config(options.config, overrides), run))
        plain = plain or results
        print(row(name, results, plain), flush=True)


if __name__ == "__main__":
    main()
