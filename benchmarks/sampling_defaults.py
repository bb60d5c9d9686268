"""How often samples repeat themselves, for several settings of sampling, beside held-out text.

    python benchmarks/sampling_defaults.py RUN --text FILE [--length 100]

RUN is a continuation run, FILE held-out running text, a paragraph a line. Prompts are the first
characters of 40 of its paragraphs. Prints, for greedy search and each setting, the share of
4-grams (of characters) that occurred in the same output before, the share of pairs of characters
that are different over all outputs, and the first outputs, to be read. The text itself comes first.
"""

import argparse
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seq2seq_kit.startup import load_tensorflow

load_tensorflow()

from seq2seq_kit.seq2seq import Seq2Seq  # noqa: E402

PROMPTS = 40
PROMPT_CHARACTERS = 14
SETTINGS: list[dict[str, Any]] = [
    {"sample": False, "beam_size": 1},
    *(
        {"sample": True, "temperature": temperature, "top_p": top_p}
        for temperature, top_p in ((1.0, 1.0), (0.8, 1.0), (1.0, 0.9), (0.9, 0.9), (0.8, 0.9))
    ),
    {"sample": True, "temperature": 0.9, "top_p": 1.0, "min_p": 0.05},
    {"sample": True, "temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.1},
]


def main() -> None:
    """Prints a row for each setting, and some outputs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--length", type=int, default=100, help="Tokens of an output.")
    options = parser.parse_args()
    opened = gzip.open if options.text.suffix == ".gz" else open
    with opened(options.text, "rt", encoding="utf-8") as file:
        paragraphs = [line.rstrip("\n") for line in file]
    # Long enough to compare with outputs of a hundred tokens.
    paragraphs = [one for one in paragraphs if len(one) > 4 * PROMPT_CHARACTERS]
    paragraphs = paragraphs[:: max(1, len(paragraphs) // PROMPTS)][:PROMPTS]
    prompts = [one[:PROMPT_CHARACTERS] for one in paragraphs]
    print("| setting | repeated 4-grams | distinct pairs |\n| --- | --- | --- |")
    show("the held-out text", [one[PROMPT_CHARACTERS:][:120] for one in paragraphs])
    model = Seq2Seq.load(options.run)
    for setting in SETTINGS:
        outputs = model.generate(prompts, max_length=options.length, **setting)
        show(", ".join(f"{name} {value}" for name, value in setting.items()), outputs)
        for prompt, output in list(zip(prompts, outputs, strict=True))[:3]:
            print(f"    {prompt} | {output!r}")


def show(name: str, texts: Sequence[str]) -> None:
    """Prints the row of some texts."""
    print(f"| {name} | {repeated(texts, 4):.2%} | {distinct(texts, 2):.1%} |", flush=True)


def repeated(texts: Sequence[str], size: int) -> float:
    """Returns the share of n-grams of characters that occurred in the same text before."""
    grams = [[text[n : n + size] for n in range(len(text) - size + 1)] for text in texts]
    return 1 - sum(len(set(one)) for one in grams) / max(1, sum(map(len, grams)))


def distinct(texts: Sequence[str], size: int) -> float:
    """Returns the share of different n-grams of characters over all texts."""
    grams = [text[n : n + size] for text in texts for n in range(len(text) - size + 1)]
    return len(set(grams)) / max(1, len(grams))


if __name__ == "__main__":
    main()
