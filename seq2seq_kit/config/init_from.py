"""What a config takes over from the run that `init_from` names, and where it contradicts that run.

Weights mean something only in the network that they were trained in: every key of `model` is taken
over, except for those marked `NOT_IN_WEIGHTS`. The vocabulary is taken over unless the config
describes another one.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import ValidationError

from seq2seq_kit.config.faults import Fault, explain, list_faults
from seq2seq_kit.config.rules import Choice, given_keys, set_values
from seq2seq_kit.config.section import NOT_IN_WEIGHTS
from seq2seq_kit.config.sections import (
    Config,
    InitConfig,
    ModelConfig,
    TokenizerConfig,
    VocabularyConfig,
)
from seq2seq_kit.errors import ConfigError, shorten


def take_over(
    config: Config,
    init: InitConfig,
    origin: Config,
    *,
    origin_name: str,
    sha256: str,
    config_name: str,
) -> tuple[Config, list[Choice]]:
    """Fills in keys that a config with `init_from` leaves out.

    Args:
        config: A config from `load_config`.
        init: Its `init_from`.
        origin: The config of the run that it starts from.
        origin_name: What to call that run in messages.
        sha256: The digest of its weights.
        config_name: What to call the config in messages.

    Returns:
        The config, in which the keys that were filled in count as given, and the choices.

    Raises:
        ConfigError: If the config contradicts the run; the message lists every key.
    """
    given = given_keys(config)
    has_vocabulary = "tokenizer" in given
    reuses = init.tokenizer if init.tokenizer is not None else not has_vocabulary
    faults = [*_model_faults(config, origin, given, origin_name)]
    if reuses and has_vocabulary:
        faults += _tokenizer_faults(config, origin, given, origin_name)
    if faults:
        raise ConfigError(list_faults(config_name, faults))
    choices = [*_sizes(config, origin, given, origin_name)]
    new: dict[str, Any] = {"init_from.tokenizer": reuses, "init_from.sha256": sha256}
    new |= {key: value for choice in choices for key, value in choice.values.items()}
    if "init_from.tokenizer" not in given:
        why = f"the config has {'a' if has_vocabulary else 'no'} `tokenizer` section"
        choices.append(Choice({"init_from.tokenizer": reuses}, why))
    if reuses:
        new["tokenizer"] = _vocabularies(origin.tokenizer)
    values = set_values(config.model_dump(exclude_unset=True), new)
    try:
        return Config.model_validate(values), choices
    except ValidationError as error:
        raise ConfigError(list_faults(config_name, explain(error, values, Config))) from error


def check_sides(config: Config, origin: Config, *, origin_name: str, config_name: str) -> None:
    """Raises ConfigError if a config has one vocabulary where its origin has two, or two for one.

    Args:
        config: The config, complete.
        origin: The config of the run that it starts from.
        origin_name: What to call that run in messages.
        config_name: What to call the config in messages.
    """
    expected, received = (
        "one vocabulary for each side" if one.tokenizer.source else "one vocabulary for both sides"
        for one in (origin, config)
    )
    if expected != received:
        raise ConfigError(
            list_faults(
                config_name,
                [
                    Fault(
                        "tokenizer",
                        f"must have {expected}, as {origin_name} has, whose weights `init_from` "
                        f"starts from. Received: {received}.",
                    )
                ],
            )
        )


def _model_faults(
    config: Config, origin: Config, given: AbstractSet[str], name: str
) -> Iterator[Fault]:
    for key in _keys_in_weights():
        expected, received = getattr(origin.model, key), getattr(config.model, key)
        # The architecture follows from the task where it is left out.
        is_given = f"model.{key}" in given or key == "architecture"
        if is_given and received != expected:
            yield Fault(
                f"model.{key}",
                f"must be {expected} here, as in {name}, whose weights `init_from` starts from. "
                f"Received: {shorten(received)}. Change it, or remove `init_from`.",
            )


def _tokenizer_faults(
    config: Config, origin: Config, given: AbstractSet[str], name: str
) -> Iterator[Fault]:
    """Yields what the config says of the vocabulary otherwise than the run that it comes from."""
    expected = dict(origin.tokenizer.vocabularies())
    for side, vocabulary in config.tokenizer.vocabularies():
        for key, value in vocabulary:
            path = ".".join(filter(None, ("tokenizer", side, key)))
            wanted = getattr(expected[side], key) if key != "model" and side in expected else None
            if path in given and key in VocabularyConfig.model_fields and value != wanted:
                yield Fault(
                    path,
                    f"must be left out where `init_from.tokenizer` is true: the vocabulary is that "
                    f"of {name}. Received: {shorten(value)}.",
                )


def _sizes(config: Config, origin: Config, given: AbstractSet[str], name: str) -> Iterator[Choice]:
    values = {
        f"model.{key}": value
        for key in _keys_in_weights()
        if f"model.{key}" not in given
        and key != "architecture"
        and (value := getattr(origin.model, key)) is not None
    }
    if values:
        yield Choice(values, f"as in {name}, from whose weights training starts")


def _keys_in_weights() -> list[str]:
    return [
        key
        for key, field in ModelConfig.model_fields.items()
        if field.json_schema_extra != NOT_IN_WEIGHTS.json_schema_extra
    ]


def _vocabularies(tokenizer: TokenizerConfig) -> dict[str, Any]:
    """Returns the keys of a tokenizer section; the files that it names are in the run."""
    sides = {
        side: {key: value for key, value in vocabulary if key in VocabularyConfig.model_fields}
        | {"model": None}
        for side, vocabulary in tokenizer.vocabularies()
    }
    return sides.get("", sides)
