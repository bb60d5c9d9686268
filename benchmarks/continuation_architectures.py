"""Which network continues prompts better: the language model or the encoder-decoder?

    python benchmarks/continuation_architectures.py [--minutes 5] [--folder runs/architectures]

Trains both on the starter's Chinese text, equally long, and scores the same continuations of the
same held-out prompts (32 tokens each) with both. Prints perplexities per token and character.
"""

import argparse
import logging
import math
from pathlib import Path

from seq2seq_kit.samples import FOLDER
from seq2seq_kit.startup import load_tensorflow

load_tensorflow()

from seq2seq_kit.config import Config, load_config  # noqa: E402
from seq2seq_kit.data.sets import encode_data  # noqa: E402
from seq2seq_kit.data.texts import validation_texts  # noqa: E402
from seq2seq_kit.data.tokenizers import Tokenizers  # noqa: E402
from seq2seq_kit.digests import FileDigests  # noqa: E402
from seq2seq_kit.inference.scorer import Scorer  # noqa: E402
from seq2seq_kit.seq2seq import Seq2Seq  # noqa: E402
from seq2seq_kit.special_ids import EOS_ID  # noqa: E402


def held_out_perplexities(model: Seq2Seq, config: Config) -> tuple[float, float]:
    """Returns the perplexity of held-out continuations, per token and per character."""
    tokenizers = Tokenizers(model.source_tokenizer, model.tokenizer)
    digests = FileDigests()
    data = encode_data(config, tokenizers, digests)
    prompts, targets = validation_texts(config, data.validation, tokenizers, digests)
    pairs = [(prompt, target) for prompt, target in zip(prompts, targets, strict=True) if target]
    scorer = Scorer(model.model, model.inputs, model.tokenizer, ends_with=EOS_ID)
    scores = scorer.score_ids(
        tokenizers.source.encode([prompt for prompt, _ in pairs]),
        tokenizers.target.encode([target for _, target in pairs]),
    )
    nats = -sum(score.log_prob for score in scores)
    num_tokens = sum(score.num_tokens for score in scores)
    num_characters = sum(len(target) for _, target in pairs)
    return math.exp(nats / num_tokens), math.exp(nats / num_characters)


def main() -> None:
    """Trains and compares both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/architectures"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for architecture in ("language_model", "encoder_decoder"):
        config = load_config(
            FOLDER / "continuation.yaml",
            [
                f"model.architecture={architecture}",
                f"training.max_minutes={arguments.minutes}",
                "training.epochs=null",
                "training.validation_samples=0",
            ],
        )
        model = Seq2Seq.fit(config, run_dir=arguments.folder / architecture)
        per_token, per_character = held_out_perplexities(model, config)
        print(
            f"{architecture}: {model.results['steps']} steps, perplexity of held-out continuations "
            f"{per_token:.2f} per token, {per_character:.2f} per character",
            flush=True,
        )


if __name__ == "__main__":
    main()
