"""What a shortlist of some size, and products in bfloat16, cost a trained translation model.

    python benchmarks/shortlist_bleu.py RUN

Decodes the run's validation data with the whole vocabulary and with lists of a number of frequent
tokens and of translations of each source token, learned again from the run's training data.
Prints BLEU, the share of lines with the output of the whole vocabulary in float32, and lines/s.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from seq2seq_kit.startup import load_tensorflow

load_tensorflow()

from seq2seq_kit.data import shortlist  # noqa: E402
from seq2seq_kit.data.sets import encode_data, learn_shortlist  # noqa: E402
from seq2seq_kit.data.texts import validation_texts  # noqa: E402
from seq2seq_kit.data.tokenizers import Tokenizers  # noqa: E402
from seq2seq_kit.digests import FileDigests  # noqa: E402
from seq2seq_kit.inference.evaluation import compare_texts  # noqa: E402
from seq2seq_kit.inference.generator import Generator  # noqa: E402
from seq2seq_kit.seq2seq import Seq2Seq  # noqa: E402

SIZES = [(500, 20), (1000, 10), (1000, 20), (1500, 10), (1500, 20)]


def main() -> None:
    """Prints a row for each size and beam."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    model = Seq2Seq.load(parser.parse_args().run)
    tokenizers = Tokenizers(model.source_tokenizer, model.tokenizer)
    digests = FileDigests()
    data = encode_data(model.config, tokenizers, digests)
    examples = validation_texts(model.config, data.validation, tokenizers, digests)
    whole: dict[int, list[str]] = {}

    def show(name: str, generator: Generator, beam_size: int, **options: Any) -> None:
        list(generator.hypotheses(examples.sources[:64], beam_size=beam_size, **options))
        begun = time.perf_counter()
        found = generator.hypotheses(examples.sources, beam_size=beam_size, **options)
        outputs = [best.text for best, *_ in found]
        speed = len(outputs) / (time.perf_counter() - begun)
        expected = whole.setdefault(beam_size, outputs)
        same = statistics.fmean(a == b for a, b in zip(outputs, expected, strict=True))
        references = [[text] for text in examples.targets]
        bleu = compare_texts(outputs, references, tokenize=model.config.data.bleu_tokenize).bleu
        print(f"| {name} | {beam_size} | {bleu:.2f} | {same:.1%} | {speed:.0f} |", flush=True)

    print("| frequent, translations | beam | BLEU | same output | lines/s |")
    print("| --- | --- | --- | --- | --- |")
    parts = (model.model, model.inputs, model.tokenizer)
    options: dict[str, Any] = {"defaults": model.config.decoding, "continues": False}
    for beam_size in (1, 5):
        generator = Generator(*parts, **options)
        show("whole vocabulary", generator, beam_size)
        show("whole vocabulary, bfloat16", generator, beam_size, precision="bfloat16")
    for shortlist._FREQUENT, shortlist._TRANSLATIONS in SIZES:
        learned = learn_shortlist(model.config, data.train, tokenizers)
        generator = Generator(*parts, **options, shortlist=learned)
        name = f"{shortlist._FREQUENT:,}, {shortlist._TRANSLATIONS}"
        for beam_size in (1, 5):
            show(name, generator, beam_size, shortlist=True)
    for beam_size in (1, 5):
        show(f"{name}, bfloat16", generator, beam_size, shortlist=True, precision="bfloat16")


if __name__ == "__main__":
    main()
