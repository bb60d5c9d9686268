"""Whether streamed outputs are the whole outputs, and when their first text appears.

    python benchmarks/streaming.py RUN --source FILE [--lines 500]

Streams the outputs of lines (of a text, plain or gzipped; of a TSV the first column) with greedy
search, sampling and a beam of 5, and compares the pieces joined with what `generate` returns for
all lines at once. A piece that was retracted would make them differ. Prints, for each search, the
outputs that differ, the share of the text that appeared before the last step, and the pieces.
Ends with exit code 1 if an output differs.
"""

import argparse
import gzip
import sys
from pathlib import Path
from typing import Any

from seq2seq_kit.startup import load_tensorflow

load_tensorflow()

from seq2seq_kit.seq2seq import Seq2Seq  # noqa: E402

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"sample": False, "beam_size": 1},
    "sampling": {"sample": True},
    "beam of 5": {"beam_size": 5},
}


def main() -> None:
    """Prints a row for each search."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--column", type=int, default=1, help="Of a TSV.")
    parser.add_argument("--characters", type=int, help="Use the beginning of each line.")
    parser.add_argument("--max-length", type=int)
    options = parser.parse_args()
    opened = gzip.open if options.source.suffix == ".gz" else open
    with opened(options.source, "rt", encoding="utf-8") as file:
        columns = [line.rstrip("\n").split("\t") for line in file]
    texts = [one[options.column - 1][: options.characters] for one in columns]
    texts = list(dict.fromkeys(filter(None, texts)))[: options.lines]
    model = Seq2Seq.load(options.run)
    num_wrong = 0
    print("| search | lines | different | text before the last piece | pieces a line |")
    print("| --- | --- | --- | --- | --- |")
    for name, search in SEARCHES.items():
        if options.max_length:
            search = search | {"max_length": options.max_length}
        whole = model.generate(texts, **search)
        streamed = [list(model.stream(text, **search)) for text in texts]
        wrong = sum("".join(p) != text for p, text in zip(streamed, whole, strict=True))
        early = sum(len("".join(pieces[:-1])) for pieces in streamed) / max(1, len("".join(whole)))
        pieces = sum(map(len, streamed)) / len(texts)
        print(f"| {name} | {len(texts)} | {wrong} | {early:.0%} | {pieces:.1f} |", flush=True)
        num_wrong += wrong
    sys.exit(bool(num_wrong))


if __name__ == "__main__":
    main()
