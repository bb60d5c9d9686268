"""espeak-ng, the synthesizer, through its C library: phoneme mnemonics to samples.

The library keeps voice, parameters and callback once for the process, so all calls are made under
one lock, and each sets what it needs. Its interface:
https://github.com/espeak-ng/espeak-ng/blob/master/src/include/espeak-ng/speak_lib.h
"""

import ctypes
import ctypes.util
import functools
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seq2seq_kit.errors import InputError, RunError, suggest
from seq2seq_kit.interruption import run_interruptibly

# From speak_lib.h.
_SYNCHRONOUS = 2  # espeak_Synth returns when all samples have gone to the callback
_PHONEME_EVENTS = 0x0001
_DONT_EXIT = 0x8000  # return an error instead of ending the process
_UTF8, _PHONEMES, _END_PAUSE = 0x0001, 0x0100, 0x1000
_RATE, _PITCH = 1, 3
_PHONEME_EVENT = 7
_LANGUAGE = "en-us"

_INSTALL = (
    "Install it with `pip install 'seq2seq_kit[speech]'`, or with the system's packages: "
    "`apt install libespeak-ng1`, `brew install espeak-ng`."
)


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Sound(NamedTuple):
    """What espeak-ng has spoken."""

    samples: np.ndarray
    """int16 `(samples,)`."""
    mnemonics: tuple[str, ...]
    """The phonemes as espeak-ng reports them, with stress marks and pauses."""


class Espeak:
    """The library, loaded and initialized; `load_espeak` returns the only one.

    Raises:
        InputError: If the library or its data are not installed.
    """

    def __init__(self) -> None:
        self._library, data = _open_library()
        self._lock = threading.Lock()
        self._samples: list[np.ndarray] = []
        self._mnemonics: list[str] = []
        folder = str(data).encode() if data else None
        flags = _PHONEME_EVENTS | _DONT_EXIT
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, folder, flags)
        """Samples a second."""
        if self.sample_rate <= 0:
            raise InputError(f"espeak-ng's data were not found. {_INSTALL}")
        self._callback = _Callback(self._receive)  # The library does not keep it alive.
        self._library.espeak_SetSynthCallback(self._callback)
        found = ctypes.c_char_p()
        self._library.espeak_Info(ctypes.byref(found))
        self._data = Path((found.value or b"").decode())

    def voices(self) -> list[str]:
        """Returns the names of the variants of the American voice."""
        return sorted(path.name for path in (self._data / "voices" / "!v").iterdir())

    def check_voice(self, voice: str) -> None:
        """Raises InputError with a suggestion if there is no variant of this name."""
        if voice not in (known := self.voices()):
            raise InputError(f"`{voice}` is not a voice of espeak-ng. {suggest(voice, known)}")

    def speak(self, text: str, *, voice: str | None, speed: int, pitch: int) -> Sound:
        """Speaks a text, in which mnemonics are between `[[` and `]]`.

        Args:
            text: At most some hundred characters: espeak-ng cuts longer clauses anywhere.
            voice: One of `voices()`; None for the voice without a variant.
            speed: Words a minute.
            pitch: 0 to 99.

        Raises:
            RunError: If espeak-ng fails.
        """
        name = f"{_LANGUAGE}+{voice}" if voice else _LANGUAGE
        # In another thread, since Python drops an exception, such as Ctrl-C, that is raised in a
        # callback from C.
        return run_interruptibly(lambda: self._speak(text.encode(), name.encode(), speed, pitch))

    def _speak(self, text: bytes, voice: bytes, speed: int, pitch: int) -> Sound:
        with self._lock:
            self._samples.clear()
            self._mnemonics.clear()
            library = self._library
            failed = library.espeak_SetVoiceByName(voice)
            failed = failed or library.espeak_SetParameter(_RATE, speed, 0)
            failed = failed or library.espeak_SetParameter(_PITCH, pitch, 0)
            failed = failed or library.espeak_Synth(
                text, len(text) + 1, 0, 1, 0, _UTF8 | _PHONEMES | _END_PAUSE, None, None
            )
            if failed:
                raise RunError(
                    f"espeak-ng could not speak {text.decode()!r} (its error {failed}). Install "
                    f"another version of it."
                )
            samples = np.concatenate([np.zeros(0, np.int16), *self._samples])
            return Sound(samples, tuple(self._mnemonics))

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        """Keeps what the library has synthesized; called by the library."""
        if samples and count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type:
            if events[index].type == _PHONEME_EVENT:
                mnemonic = bytes(events[index].id.string).partition(b"\0")[0]
                self._mnemonics.append(mnemonic.decode())
            index += 1
        return 0  # go on


@functools.cache
def load_espeak() -> Espeak:
    """Returns the library; it can be initialized only once in a process.

    Raises:
        InputError: If it is not installed.
    """
    return Espeak()


def _open_library() -> tuple[ctypes.CDLL, Path | None]:
    """Returns the library of the wheel, else the system's, and the folder of its data."""
    try:
        import espeakng_loader
    except ImportError:
        name, data = ctypes.util.find_library("espeak-ng"), None
    else:
        name, data = espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())
    if name is None:
        raise InputError(f"espeak-ng, which synthesizes speech, is not installed. {_INSTALL}")
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise InputError(f"espeak-ng cannot be loaded from {name}: {error}. {_INSTALL}") from error
    library.espeak_Initialize.argtypes = (
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
    )
    library.espeak_Info.argtypes = (ctypes.POINTER(ctypes.c_char_p),)
    library.espeak_Synth.argtypes = (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    )
    return library, data
