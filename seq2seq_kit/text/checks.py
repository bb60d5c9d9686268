"""Checks of the files that a config names, before anything costly begins."""

from seq2seq_kit.config import Config
from seq2seq_kit.config.faults import Fault, list_faults
from seq2seq_kit.errors import ConfigError
from seq2seq_kit.files import why_not_regular
from seq2seq_kit.text.corpus import check_corpus


def check_files(config: Config, name: str = "config") -> None:
    """Checks that every file of a config can be read, and that parallel files have equal lengths.

    Args:
        config: A config from `load_config`, so that its paths are absolute.
        name: The name of the config in messages.

    Raises:
        ConfigError: If a file cannot be used; the message lists every fault under its key.
    """
    faults = [
        Fault(f"data.{key}", message)
        for key, corpus in config.data.corpora()
        for message in check_corpus(corpus)
    ]
    for side, vocabulary in config.tokenizer.vocabularies():
        if vocabulary.model is not None and (reason := why_not_regular(vocabulary.model)):
            key = f"tokenizer.{side}.model" if side else "tokenizer.model"
            faults.append(Fault(key, f"must be a file. Received: {vocabulary.model}: {reason}."))
    if faults:
        raise ConfigError(list_faults(name, faults))
