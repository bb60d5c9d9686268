"""WAV files, read back with the standard library."""

import io
import wave
from typing import Any

import numpy as np
import pytest

from seq2seq_kit.errors import RunError
from seq2seq_kit.speech import wav
from seq2seq_kit.speech.wav import write_wav

PIECES = [np.arange(5, dtype=np.int16), np.zeros(0, np.int16), np.array([-32768, 32767], np.int16)]


class Pipe(io.BytesIO):
    """A stream that cannot go back."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise OSError("Illegal seek")

    def tell(self) -> int:
        raise OSError("Illegal seek")


@pytest.mark.parametrize("stream", [io.BytesIO, Pipe])
def test_pieces_are_written_one_after_the_other(stream: type[io.BytesIO]) -> None:
    file = stream()
    write_wav(file, iter(PIECES), 22050)
    with wave.open(io.BytesIO(file.getvalue())) as read:
        assert read.getparams()[:4] == (1, 2, 22050, 7)
        samples = np.frombuffer(read.readframes(7), "<i2")
    assert samples.tolist() == [0, 1, 2, 3, 4, -32768, 32767]


def test_sound_that_no_wav_file_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "_MAX_BYTES", 10)
    with pytest.raises(RunError, match="--each"):
        write_wav(io.BytesIO(), PIECES, 22050)
