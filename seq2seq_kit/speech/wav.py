"""WAV files of 16-bit samples, written while the samples come."""

import wave
from collections.abc import Iterable
from typing import IO

import numpy as np

from seq2seq_kit.errors import RunError

# The sizes in its header have 32 bits.
_MAX_BYTES = 2**32 - 2**10


def write_wav(file: IO[bytes], pieces: Iterable[np.ndarray], sample_rate: int) -> None:
    """Writes one channel of sound.

    Args:
        file: An open file. If it is a pipe, nothing is written before the last piece has come,
            since the header has the length.
        pieces: int16 `(samples,)` each, one after the other.
        sample_rate: Samples a second.

    Raises:
        RunError: If the sound is too long for a WAV file, which holds 27 hours of it.
    """
    if not file.seekable():
        pieces = [np.concatenate([np.zeros(0, np.int16), *pieces])]
    size = 0
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(sample_rate)
        for piece in pieces:
            size += piece.nbytes
            if size > _MAX_BYTES:
                raise RunError(
                    "A WAV file cannot hold more than 27 hours. Divide the text, or write a file "
                    "for each line (`--each`)."
                )
            if not file.seekable():
                wav.setnframes(len(piece))
            wav.writeframes(piece.astype("<i2").tobytes())
