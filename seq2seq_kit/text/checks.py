"""What is wrong with the files that a config names, found before anything costly begins."""

from seq2seq_kit.config import Config
from seq2seq_kit.config.faults import Fault, list_faults
from seq2seq_kit.errors import ConfigError
from seq2seq_kit.files import why_not_regular
from seq2seq_kit.text.corpus import check_corpus


def check_files(config: Config, name: str = "config") -> None:
    """Looks at every file of a config: there, readable, both sides with as many lines.

    Args:
        config: A config from `load_config`, so that its paths are absolute.
        name: What to call it in messages.

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
