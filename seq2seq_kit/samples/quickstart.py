"""`make quickstart`: trains both starters, shows their outputs, and exports and queries both.

Run as `python -m seq2seq_kit.samples.quickstart [--fresh]`. A second run shows the report of the
first; a run that was interrupted is resumed.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.samples import FOLDER
from seq2seq_kit.startup import load_tensorflow, show_log

if TYPE_CHECKING:
    from seq2seq_kit.seq2seq import Seq2Seq

PROMPTS = ("春天到了，万物复苏。", "今天天气很好，", "我小的时候，")
"""The prompts for the continuation model."""

# A continuation may share words with the training text, but no passage of this many characters.
_COPIED_SPAN = 20

# Code as a server would run it: nothing of this package is imported.
_ASK_EXPORT = """
import json, sys
import tensorflow as tf, tensorflow_text
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found = serve(inputs=tf.constant(json.loads(sys.argv[2])))
assert not any(name.startswith("seq2seq_kit") for name in sys.modules)
print(json.dumps([text.decode() for text in found["outputs"].numpy()]))
"""


@click.command()
@click.option("--fresh", is_flag=True, help="Train again instead of showing the last results.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("runs/quickstart"),
    show_default=True,
    help="Folder for the runs, the exports and the report.",
)
def main(fresh: bool, folder: Path) -> None:
    """Train a translation and a continuation model on the bundled data and show their outputs."""
    report = folder / "report.txt"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    if report.is_file():
        click.echo(report.read_text(encoding="utf-8"))
        click.echo(
            "These are the results of an earlier run. Train again with: make quickstart FRESH=1"
        )
        return
    show_log(force=True)
    load_tensorflow()
    started = time.monotonic()
    shown = []
    for line in _run(folder):
        click.echo(line)
        shown.append(line)
    shown.append(f"\nAll of this took {(time.monotonic() - started) / 60:.1f} minutes.")
    click.echo(shown[-1])
    write_bytes(report, ("\n".join(shown) + "\n").encode(), "The report")


def _run(folder: Path) -> Iterator[str]:
    """Trains, shows and exports both models; yields the report line by line."""
    yield "== German to English, learned from Tatoeba's sentences =="
    translator = _fit("translation", folder)
    yield from _show_translations(translator)
    yield from _show_export(translator, folder / "export-translation", ["Wo ist der Bahnhof?"])
    yield "\n== Chinese continuations, learned from short modern sentences =="
    writer = _fit("continuation", folder)
    yield from _show_continuations(writer)
    yield from _show_export(writer, folder / "export-continuation", PROMPTS[:1])
    yield (
        f"\nContinue with:\n"
        f'  .venv/bin/s2s generate {folder}/translation --prompt "Das Wetter ist heute schön."\n'
        f'  .venv/bin/s2s generate {folder}/continuation --echo --prompt "{PROMPTS[0]}"\n'
        f'  .venv/bin/s2s generate {folder}/continuation --echo --seed 2 --prompt "{PROMPTS[0]}"\n'
        f"  .venv/bin/s2s info {folder}/translation"
    )


def _fit(name: str, folder: Path) -> "Seq2Seq":
    """Trains a starter, resumes a run that was interrupted, or loads one that is complete."""
    from seq2seq_kit.seq2seq import Seq2Seq
    from seq2seq_kit.training.run_folder import RunFolder

    run = RunFolder(folder / name)
    if run.results.is_file():
        return Seq2Seq.load(run.path)
    return Seq2Seq.fit(FOLDER / f"{name}.yaml", run_dir=run.path, resume=run.last.is_file())


def _show_translations(translator: "Seq2Seq") -> Iterator[str]:
    from seq2seq_kit.data.texts import corpus_texts

    results = translator.results
    yield (
        f"Trained {results['minutes']:.1f} minutes. The whole held-out file, "
        f"{results['test_num_lines']:,} lines: BLEU {results['test_bleu']:.1f}, "
        f"chrF {results['test_chrf']:.1f}, {results['test_exact_match']:.0f} % word for word."
    )
    yield f"  {results['test_bleu_signature']}"
    yield f"  {results['test_chrf_signature']}"
    yield "Its first ten lines of five words or more:"
    pairs = zip(*corpus_texts(translator.config.data.test or ()), strict=True)
    chosen = [pair for pair in pairs if len(pair[0].split()) >= 5][:10]
    outputs = translator.generate([source for source, _ in chosen])
    for (source, target), output in zip(chosen, outputs, strict=True):
        yield f"  German     {source}\n  model      {output}\n  reference  {target}\n"


def _show_continuations(writer: "Seq2Seq") -> Iterator[str]:
    yield (
        f"Trained {writer.results['minutes']:.1f} minutes to a perplexity of "
        f"{writer.results['validation_perplexity']:.1f} per token on held-out text."
    )
    training_text = _training_text(writer)
    samples = [
        [one.text for one in found] for found in writer.hypotheses(PROMPTS, num_hypotheses=3)
    ]
    for prompt, (first, *_) in zip(PROMPTS, samples, strict=True):
        yield f"  prompt        {prompt}\n  continuation  {_on_one_line(first)}"
        span = longest_copied_span(first, training_text)
        verdict = "less than" if len(span) < _COPIED_SPAN else "NOT less than"
        yield (
            f"  The longest span copied from the training text, {len(span)} characters, is "
            f"{verdict} {_COPIED_SPAN}: {span}\n"
        )
    yield f"Each token is drawn at random: three samples after {PROMPTS[0]}"
    for text in samples[0]:
        yield f"  {_on_one_line(text)}"
    (greedy,) = writer.generate(PROMPTS[:1], sample=False)
    yield f"The most likely token at each step (--greedy): {_on_one_line(greedy)}\n"


def _on_one_line(text: str) -> str:
    return text.strip("\n").replace("\n", " / ")


def _training_text(writer: "Seq2Seq") -> str:
    from seq2seq_kit.data.texts import corpus_texts

    return "".join(corpus_texts(writer.config.data.train).targets)


def longest_copied_span(text: str, source: str) -> str:
    """Returns the longest span of `text` that occurs in `source`; line ends do not count."""
    text = "".join(text.split("\n"))
    longest = ""
    for first in range(len(text)):
        # A longer span than the longest so far has its first characters in the source too.
        while text[first : first + len(longest) + 1] in source:
            if first + len(longest) + 1 > len(text):
                break
            longest = text[first : first + len(longest) + 1]
    return longest


def _show_export(model: "Seq2Seq", path: Path, inputs: Sequence[str]) -> Iterator[str]:
    """Exports a model and queries the export in a new process."""
    from seq2seq_kit.errors import InputError

    shutil.rmtree(path, ignore_errors=True)
    try:
        model.export(path)
    except InputError as error:
        yield f"Not exported: {error}"
        return
    asked = json.dumps(list(inputs))
    ended = subprocess.run(
        [sys.executable, "-c", _ASK_EXPORT, path, asked], capture_output=True, check=True
    )
    yield f"Exported to {path}. A process without seq2seq_kit queried it:"
    answers = json.loads(ended.stdout.decode("utf-8").splitlines()[-1])
    for text, answer in zip(inputs, answers, strict=True):
        yield f"  {text} -> {_on_one_line(answer)}"


if __name__ == "__main__":
    main()
