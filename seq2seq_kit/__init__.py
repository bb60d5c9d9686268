"""Recurrent sequence-to-sequence learning: a line to a line, or a prompt to its continuation.

The folders are the stages that data pass through, and each imports only from those before it:

1. `config`: what a run is, from and to YAML, and the defaults that suit the data
2. `text`: files to aligned lines, normalized and checked
3. `tokens`: SentencePiece, from text to ids and back
4. `data`: corpora encoded once and memory-mapped, the plan of an epoch, tf.data, the shortlist
5. `model`: Keras layers and the two networks
6. `training`: the loop and its parts, checkpoints, the run folder
7. `decoding`: search over a step function; ids only, and nothing of the other folders
8. `inference`: text in, text or scores out
9. `export`: a SavedModel from string to string, and the check of what one may hold
10. `insight`: attention, gates, surprise and alignments of a trained model, and pictures of them

`seq2seq` puts the stages together as the class that a notebook uses, `speech` reads texts aloud,
and `cli` is the command `s2s`. The names below are loaded on first use, so that importing the
package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from seq2seq_kit.keras_registration import register_with_keras

if TYPE_CHECKING:
    from seq2seq_kit.config import Config, load_config
    from seq2seq_kit.errors import ConfigError, DataError, InputError, RunError, TrainingInterrupted
    from seq2seq_kit.inference.generator import Hypothesis
    from seq2seq_kit.model.build import build_model
    from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
    from seq2seq_kit.seq2seq import Seq2Seq
    from seq2seq_kit.speech.speaker import Speaker
    from seq2seq_kit.tokens.tokenizer import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "DataError",
    "EncoderDecoder",
    "Hypothesis",
    "InputError",
    "LanguageModel",
    "RunError",
    "Seq2Seq",
    "Speaker",
    "Tokenizer",
    "TrainingInterrupted",
    "build_model",
    "load_config",
]

_MODULES = {
    "Config": "config",
    "ConfigError": "errors",
    "DataError": "errors",
    "EncoderDecoder": "model.networks",
    "Hypothesis": "inference.generator",
    "InputError": "errors",
    "LanguageModel": "model.networks",
    "RunError": "errors",
    "Seq2Seq": "seq2seq",
    "Speaker": "speech.speaker",
    "Tokenizer": "tokens.tokenizer",
    "TrainingInterrupted": "errors",
    "build_model": "model.build",
    "load_config": "config",
}
_WITHOUT_TENSORFLOW = frozenset({"config", "errors", "speech.speaker", "tokens.tokenizer"})


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _MODULES[name] not in _WITHOUT_TENSORFLOW:
        from seq2seq_kit.startup import load_tensorflow

        load_tensorflow()
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # The next use finds it here.
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_keras()
