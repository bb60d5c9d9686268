"""`s2s speak`: text to WAV files. Skipped where espeak-ng is missing."""

import io
import os
import signal
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backwards import start_s2s

from seq2seq_kit import Speaker
from seq2seq_kit.cli import main
from seq2seq_kit.errors import InputError


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    try:
        return Speaker()
    except InputError as error:
        pytest.skip(str(error))


def samples(file: Any) -> np.ndarray:
    with wave.open(file) as read:
        return np.frombuffer(read.readframes(read.getnframes()), "<i2")


def assert_says(samples: np.ndarray, speaker: Speaker, text: str) -> None:
    """The samples are as many as those of a text; espeak-ng varies each reading a little."""
    assert len(samples) == pytest.approx(len(speaker.speak(text).samples), rel=0.05)
    assert samples.any()


def test_a_text_becomes_a_wav_file(speaker: Speaker, tmp_path: Path) -> None:
    path = tmp_path / "out" / "hello.wav"
    assert main(["speak", "Hello, world!", "-o", str(path)]) == 0
    assert_says(samples(str(path)), speaker, "Hello, world!")


def test_standard_input_and_output(speaker: Speaker, stdin: Any, capsysbinary: Any) -> None:
    stdin(b"One two\nthree.\n")
    assert main(["speak", "-o", "-"]) == 0
    written = samples(io.BytesIO(capsysbinary.readouterr().out))
    assert_says(written, speaker, "One two. Three.")


def test_each_line_becomes_a_file(speaker: Speaker, stdin: Any, tmp_path: Path) -> None:
    stdin(b"One.\n\nThree.")
    assert main(["speak", "--each", "-o", str(tmp_path / "lines")]) == 0
    assert sorted(path.name for path in (tmp_path / "lines").iterdir()) == [
        "0001.wav",
        "0002.wav",
        "0003.wav",
    ]
    assert_says(samples(str(tmp_path / "lines" / "0003.wav")), speaker, "Three.")
    assert not samples(str(tmp_path / "lines" / "0002.wav")).any()


@pytest.mark.usefixtures("speaker")
def test_a_line_that_cannot_be_spoken_is_named_and_leaves_no_file(
    stdin: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin("Hello.\n春天\n".encode())
    assert main(["speak", "-o", str(tmp_path / "out.wav")]) == 2
    assert "Line 2: Expected English text in Latin letters" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("speaker")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--voice", "wisper", "-o", "a.wav"], "Did you mean `whisper`"),
        (["--speed", "1000", "-o", "a.wav"], "not in the range"),
        ([], "Missing option '-o'"),
        (["--each", "-o", "-"], "must be a folder"),
        (["-o", "a.mp3"], "must be a WAV file"),
    ],
)
def test_wrong_options_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["speak", "Hello.", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("speaker")
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for processes")
def test_ctrl_c_leaves_no_file(tmp_path: Path) -> None:
    process = start_s2s("speak", "-o", str(tmp_path / "out.wav"))
    assert process.stdin is not None
    process.stdin.write(b"This is a sentence.\n" * 1000)
    process.stdin.flush()
    while not list(tmp_path.rglob("content")):  # the half-written file
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in errors
    assert list(tmp_path.iterdir()) == []
