"""`make quickstart`: what the packaged models do, then a translator and a fine-tuned writer.

Both are trained on the bundled data, shown, exported and queried. Run as
`python -m seq2seq_kit.samples.quickstart [--fresh]`. A second run shows the report of the first; a
run that was interrupted is resumed.
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
"""The prompts for both writers."""

_ENGLISH = "The weather is beautiful today, and the children are playing in the garden."

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
    """Show what the packaged models do, and train a translator and a writer on bundled text."""
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
    for piece in _run(folder):
        click.echo(piece, nl=False)
        shown.append(piece)
    shown.append(f"\nAll of this took {(time.monotonic() - started) / 60:.1f} minutes.\n")
    click.echo(shown[-1], nl=False)
    write_bytes(report, "".join(shown).encode(), "The report")


def _run(folder: Path) -> Iterator[str]:
    """Yields the report piece by piece while it does what is reported."""
    yield "== Models that come with the package ==\n"
    yield from _show_packaged_models(folder)
    yield "\n== German to English, learned from Tatoeba's sentences ==\n"
    translator = _fit("translation", folder)
    yield from _show_translations(translator)
    yield from _show_export(translator, folder / "export-translation", ["Wo ist der Bahnhof?"])
    yield "\n== Tang verse: zh-prose, trained further on 366 poems ==\n"
    writer = _fit("verse", folder)
    yield from _show_verse(writer)
    yield from _show_export(writer, folder / "export-verse", PROMPTS[:1])
    yield (
        f"\nContinue with:\n"
        f"  .venv/bin/s2s models\n"
        f'  .venv/bin/s2s generate zh-prose --echo --seed 2 --prompt "{PROMPTS[0]}"\n'
        f'  .venv/bin/s2s generate {folder}/translation --prompt "Das Wetter ist heute schön."\n'
        f'  .venv/bin/s2s generate {folder}/verse --echo --prompt "{PROMPTS[0]}"\n'
        f"  .venv/bin/s2s info {folder}/translation\n"
    )


def _show_packaged_models(folder: Path) -> Iterator[str]:
    from seq2seq_kit.pretrained import list_models
    from seq2seq_kit.seq2seq import Seq2Seq

    for model in list_models():
        yield f"  {model.name}, {model.size / 1e6:.1f} MB: {model.metadata.summary}\n"
    yield f"zh-prose continues, seed 1:\n  {PROMPTS[0]}"
    for piece in Seq2Seq.load("zh-prose").stream(PROMPTS[0], seed=1):
        yield piece.replace("\n", " / ")
    yield "\nen-de and en-zh translate:\n"
    yield f"  English  {_ENGLISH}\n"
    for name, language in {"en-de": "German", "en-zh": "Chinese"}.items():
        (output,) = Seq2Seq.load(name).generate([_ENGLISH])
        yield f"  {language:<8} {output}\n"
    yield _speak(folder / "hello.wav")


def _speak(path: Path) -> str:
    """Speaks a sentence with a name that no dictionary has; returns a line for the report."""
    from seq2seq_kit.errors import InputError
    from seq2seq_kit.speech.speaker import Speaker

    text = "Welcome to Quintopolis!"
    try:
        Speaker().speak(text).save(path)
    except InputError as error:  # espeak-ng is an extra.
        return f"Not spoken: {error}\n"
    return f"en-g2p pronounces the name in {text!r}: {path}\n"


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
        f"chrF {results['test_chrf']:.1f}, {results['test_exact_match']:.0f} % word for word.\n"
    )
    yield f"  {results['test_bleu_signature']}\n  {results['test_chrf_signature']}\n"
    yield "Its first ten lines of five words or more:\n"
    pairs = zip(*corpus_texts(translator.config.data.test or ()), strict=True)
    chosen = [pair for pair in pairs if len(pair[0].split()) >= 5][:10]
    outputs = translator.generate([source for source, _ in chosen])
    for (source, target), output in zip(chosen, outputs, strict=True):
        yield f"  German     {source}\n  model      {output}\n  reference  {target}\n\n"


def _show_verse(writer: "Seq2Seq") -> Iterator[str]:
    yield (
        f"Trained {writer.results['minutes']:.1f} minutes to a perplexity of "
        f"{writer.results['validation_perplexity']:.1f} per token on held-out poems.\n"
    )
    training_text = _training_text(writer)
    for prompt, output in zip(PROMPTS, writer.generate(PROMPTS), strict=True):
        yield f"  prompt        {prompt}\n  continuation  {_on_one_line(output)}\n"
        span = longest_copied_span(output, training_text)
        verdict = "less than" if len(span) < _COPIED_SPAN else "NOT less than"
        yield (
            f"  The longest span copied from the poems, {len(span)} characters, is "
            f"{verdict} {_COPIED_SPAN}: {span}\n\n"
        )


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
        yield f"Not exported: {error}\n"
        return
    asked = json.dumps(list(inputs))
    ended = subprocess.run(
        [sys.executable, "-c", _ASK_EXPORT, path, asked], capture_output=True, check=True
    )
    yield f"Exported to {path}. A process without seq2seq_kit queried it:\n"
    answers = json.loads(ended.stdout.decode("utf-8").splitlines()[-1])
    for text, answer in zip(inputs, answers, strict=True):
        yield f"  {text} -> {_on_one_line(answer)}\n"


if __name__ == "__main__":
    main()
