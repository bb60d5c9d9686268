"""Word-level sequence-to-sequence learning: a line in, a line out, or a prompt and what follows it.

The way of the data, a module or two a stage:

1. text: `corpus` (files to aligned lines), `checks` (what is wrong with them)
2. ids: `tokenizer` (SentencePiece)
3. batches: `prepared` (encoded once, memory-mapped), `dataset` (the plan of an epoch, tf.data)
4. model: `lstm`, `attention`, `encoder`, `decoder`, `model` (Keras layers and models)
5. training: `losses`, `checkpoint`, `run_folder`, `training`
6. decoding: `decoding` (search over ids), `generation`, `scoring`, `evaluation` (texts)
7. export: `export` (a SavedModel from string to string), `export_safety` (what one may hold)

`config` says what a run is, `pipeline` and `seq2seq` put the stages together, `cli` is `s2s`.
The names below are loaded on first use, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from seq2seq_kit.keras_registration import register_with_keras

if TYPE_CHECKING:
    from seq2seq_kit.config import Config, load_config
    from seq2seq_kit.decoding import beam_search, greedy_search
    from seq2seq_kit.errors import ConfigError, DataError, InputError, RunError, TrainingInterrupted
    from seq2seq_kit.generation import Hypothesis
    from seq2seq_kit.model import EncoderDecoder, LanguageModel, build_model
    from seq2seq_kit.seq2seq import Seq2Seq
    from seq2seq_kit.tokenizer import Tokenizer

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
    "Tokenizer",
    "TrainingInterrupted",
    "beam_search",
    "build_model",
    "greedy_search",
    "load_config",
]

_MODULES = {
    "Config": "config",
    "ConfigError": "errors",
    "DataError": "errors",
    "EncoderDecoder": "model",
    "Hypothesis": "generation",
    "InputError": "errors",
    "LanguageModel": "model",
    "RunError": "errors",
    "Seq2Seq": "seq2seq",
    "Tokenizer": "tokenizer",
    "TrainingInterrupted": "errors",
    "beam_search": "decoding",
    "build_model": "model",
    "greedy_search": "decoding",
    "load_config": "config",
}
_WITHOUT_TENSORFLOW = frozenset({"config", "errors", "tokenizer"})


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
