"""`s2s speak`: reads a text aloud into a WAV file."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seq2seq_kit import bounds
from seq2seq_kit.cli.options import FILE, check_text, debug_option
from seq2seq_kit.cli.text_io import STANDARD_STREAM, open_output, read_in_chunks
from seq2seq_kit.errors import InputError

_OTHER_FORMATS = frozenset((".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wma"))

if TYPE_CHECKING:
    import numpy as np

    from seq2seq_kit.speech.speaker import Speaker


@click.command
@click.argument("text", required=False, callback=check_text)
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    help="The WAV file, `-` for standard output; with --each, a folder.",
)
@click.option(
    "--each",
    is_flag=True,
    help="Write a WAV file for each line, named by its number: 0001.wav, 0002.wav and so on.",
)
@click.option(
    "--voice",
    metavar="NAME",
    help="A variant of espeak-ng's American voice, such as f1 to f5, m1 to m8, or whisper.",
)
@click.option(
    "--speed",
    type=click.IntRange(bounds.MIN_SPEAKING_SPEED, bounds.MAX_SPEAKING_SPEED),
    default=175,
    show_default=True,
    help="Words a minute.",
)
@click.option(
    "--pitch",
    type=click.IntRange(0, bounds.MAX_PITCH),
    default=50,
    show_default=True,
    help="The pitch of the voice, in espeak-ng's unit.",
)
@click.option(
    "--model",
    default="en-g2p",
    show_default=True,
    metavar="RUN",
    help="The model that pronounces words that are not in the dictionary.",
)
@debug_option
def speak(
    text: str | None,
    output: Path,
    each: bool,
    voice: str | None,
    speed: int,
    pitch: int,
    model: str,
) -> None:
    """Read TEXT, or standard input, aloud in American English.

    Numbers, dates, amounts, abbreviations and symbols are read out as words, and punctuation gives
    pauses. A line break ends a sentence. Needs `pip install 'seq2seq_kit[speech]'`.
    """
    if output.suffix.lower() in _OTHER_FORMATS:
        raise InputError(
            f"--output must be a WAV file. Received: {output}. Name it .wav, and convert it with a "
            f"program such as ffmpeg."
        )
    from seq2seq_kit.speech.speaker import Speaker

    speaker = Speaker(voice=voice, speed=speed, pitch=pitch, model=model)
    lines = _lines(text)
    if each:
        _write_each(speaker, lines, output)
        return
    from seq2seq_kit.speech.wav import write_wav

    with open_output(output) as file:
        pieces = (piece for line in lines for piece in _spoken(speaker, *line))
        write_wav(file, pieces, speaker.sample_rate)


def _write_each(speaker: "Speaker", lines: Iterator[tuple[int, str]], folder: Path) -> None:
    """Writes a file for each line; each appears when it is complete.

    Raises:
        InputError: If `folder` is a file or standard output.
    """
    from seq2seq_kit.speech.wav import write_wav

    if folder == STANDARD_STREAM or folder.is_file():
        raise InputError(f"--output must be a folder with --each. Received: {folder}.")
    for number, line in lines:
        with open_output(folder / f"{number:04}.wav") as file:
            write_wav(file, _spoken(speaker, number, line), speaker.sample_rate)


def _lines(text: str | None) -> Iterator[tuple[int, str]]:
    """Yields the lines of the text, or of standard input, with their numbers."""
    chunks = read_in_chunks(None) if text is None else iter([(1, text.split("\n"))])
    for first_line, chunk in chunks:
        yield from zip(itertools.count(first_line), chunk)


def _spoken(speaker: "Speaker", number: int, line: str) -> "Iterator[np.ndarray]":
    """Yields the samples of a line.

    Raises:
        InputError: If it cannot be spoken; the message has its number.
    """
    try:
        yield from speaker.stream(line)
    except InputError as error:
        raise InputError(f"Line {number}: {error}") from error
