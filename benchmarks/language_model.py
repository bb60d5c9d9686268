"""How well a language model predicts a standard text: trained, then scored from beginning to end.

    python benchmarks/language_model.py CONFIG --data DIR [--run-dir RUN] [--resume]
        [--set KEY=VALUE]... [--only-score]

CONFIG is a file of `benchmarks/configs` with running text. Trains it, or resumes its run, and
scores the validation text, or what is held out of the training text, with and without adaptation:
perplexity per word, a line's end counted as one, and nats per character. Adaptation has the options
of the config's `adaptation` section: choose them on validation data with
`--only-score --set adaptation.rate=...`.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from seq2seq_kit.startup import load_tensorflow

load_tensorflow()

from seq2seq_kit.config import Config, load_config  # noqa: E402
from seq2seq_kit.data.sets import encode_data  # noqa: E402
from seq2seq_kit.data.tokenizers import Tokenizers  # noqa: E402
from seq2seq_kit.digests import FileDigests  # noqa: E402
from seq2seq_kit.inference.scorer import Score, perplexity  # noqa: E402
from seq2seq_kit.seq2seq import Seq2Seq  # noqa: E402
from seq2seq_kit.text.lines import read_lines  # noqa: E402


def validation_lines(model: Seq2Seq, config: Config) -> list[str]:
    """Returns the lines of the validation text, or of what is held out of the training text."""
    if config.data.validation is not None:
        return [line for one in config.data.validation for line in read_lines(one.files[0])]
    tokenizers = Tokenizers(model.source_tokenizer, model.tokenizer)
    held_out = encode_data(config, tokenizers, FileDigests()).validation
    texts = model.tokenizer.decode([held_out.target[row].tolist() for row in range(len(held_out))])
    return "\n".join(texts).removesuffix("\n").split("\n")


def report(name: str, scores: Sequence[Score], lines: Sequence[str], seconds: float) -> None:
    """Prints what the scores of lines come to."""
    scored = [pair for pair in zip(scores, lines, strict=True) if pair[0].num_tokens]
    found = perplexity([score for score, _ in scored], [line for _, line in scored])
    nats = -sum(score.log_prob for score in scores)
    words = sum(len(line.split()) + 1 for _, line in scored)
    characters = sum(len(line) + 1 for _, line in scored)
    print(
        f"{name}: {nats:,.0f} nats, perplexity per token {found.per_token:.2f}, per word "
        f"{found.per_word or float('nan'):.2f} ({words:,} words and ends of lines), "
        f"{nats / characters:.4f} nats per character ({characters:,}); {seconds:.0f} seconds",
        flush=True,
    )


def main() -> None:
    """Trains, and scores what was trained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--only-score", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    overrides = [f"data.root={arguments.data.absolute()}", *arguments.overrides]
    config = load_config(arguments.config, overrides)
    run = arguments.run_dir or Path("runs") / arguments.config.stem
    if arguments.only_score:
        model = Seq2Seq.load(run)
    else:
        model = Seq2Seq.fit(config, run_dir=run, resume=arguments.resume)
        print(f"{model.results['steps']} steps, {model.results['minutes']} minutes", flush=True)
    lines = validation_lines(model, model.config)
    for name, options in (
        ("as trained", {}),
        ("adapted", {"adapt": True, **config.adaptation.model_dump()}),
    ):
        begun = time.perf_counter()
        scores = model.score_text(lines, **options)
        report(name, scores, lines, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
