"""The weights of an export as float32, float16, bfloat16 and int8: size, quality, speed, loading.

    python benchmarks/export_weights.py RUN [--lines 1000] [--rounds 3] [--beam-size 5]

RUN is a run or a packaged model of translation, whose test data are translated. A run has float32
weights; those of most packaged models were int8 before, so that int8 costs them nothing. Each form
is exported, then all are asked in turns in this process. Prints a table: the size of the folder,
BLEU, the speed relative to float32, and the seconds until the export has answered its first line.
"""

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, get_args


def read_test(model: Any, number: int) -> tuple[list[str], list[str]]:
    """Returns the first sources and targets of the test data."""
    from seq2seq_kit.text.corpus import read_corpus

    pairs = [
        pair for corpus in model.config.data.test for pair in islice(read_corpus(corpus), number)
    ]
    return [pair.source for pair in pairs[:number]], [pair.target for pair in pairs[:number]]


def size_of(folder: Path) -> int:
    """Returns the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def timed(function: Any) -> tuple[float, Any]:
    """Returns the seconds that a call takes, and its result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beam-size", type=int, default=5)
    args = parser.parse_args()

    from seq2seq_kit import Seq2Seq
    from seq2seq_kit.export.saved_model import ExportedModel
    from seq2seq_kit.inference.evaluation import compare_texts
    from seq2seq_kit.pretrained.compact import Storage

    model = Seq2Seq.load(args.run)
    sources, targets = read_test(model, args.lines)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, name) for name in get_args(Storage)}
        for name, path in paths.items():
            model.export(path, weights=name, beam_size=args.beam_size)
        exports: dict[str, ExportedModel] = {}
        loading, seconds, bleu = {}, {name: [] for name in paths}, {}
        for name, path in paths.items():
            loading[name], exports[name] = timed(lambda path=path: ExportedModel(path))
            loading[name] += timed(lambda name=name: exports[name].generate(sources[:1]))[0]
        for _ in range(args.rounds):
            for name, export in exports.items():
                needed, found = timed(lambda export=export: export.generate(sources))
                seconds[name].append(needed)
                scores = compare_texts(
                    found.texts,
                    [[target] for target in targets],
                    tokenize=model.config.data.bleu_tokenize,
                )
                bleu[name] = scores.bleu
        print("| weights | MB | size | BLEU | speed | first answer, s |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        whole = size_of(paths["float32"])
        for name, path in paths.items():
            pairs = zip(seconds["float32"], seconds[name], strict=True)
            ratio = statistics.median(one / other for one, other in pairs)
            size = size_of(path)
            print(
                f"| {name} | {size / 1e6:.1f} | {size / whole:.1%} | {bleu[name]:.2f} | "
                f"{ratio:.2f} | {loading[name]:.1f} |"
            )


if __name__ == "__main__":
    main()
