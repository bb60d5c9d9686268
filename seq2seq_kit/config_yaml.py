"""YAML to plain values, and `key.path=value` overrides of them. Knows nothing of the sections."""

import re
from pathlib import Path
from typing import Any

import yaml

from seq2seq_kit.config_faults import Fault, shorten
from seq2seq_kit.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML as people write it: `1e-3` is a number, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                _refuse(f"a key must be a text. Received: {key!r}", key_node)
            if key in seen:
                _refuse(f"the key {key!r} is given twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refuse(problem: str, node: yaml.Node) -> None:
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


# PyYAML follows YAML 1.1, where a float needs a dot and a signed exponent: `1e-3` would be a text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns what a YAML file of sections holds.

    Raises:
        ConfigError: If the file cannot be read, is not YAML, or holds no sections.
    """
    try:
        # utf-8-sig: some editors put a byte order mark before the first key.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a config: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8, but byte {error.start} is not.") from error
    try:
        values = _parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {_in_one_line(error)}.") from error
    if not isinstance(values, dict):
        received = "an empty file" if values is None else shorten(values)
        raise ConfigError(
            f"{path}: must hold sections such as `data:` and `model:`. Received: {received}."
        )
    return values


def apply_override(values: dict[str, Any], override: str) -> list[Fault]:
    """Sets one `key.path=value` in `values`, where a section left out begins empty.

    Args:
        values: A config as plain values; changed in place.
        override: The key, an equals sign and the value in YAML. An entry of a list is called by
            its number, counted from 0.

    Returns:
        The fault, if there is one. Whether the key means anything is not known here.
    """
    path, equals, text = override.partition("=")
    *parents, last = path.strip().split(".")
    if not equals or not last:
        return [Fault(override, "must be written key.path=value, such as training.epochs=3.")]
    try:
        value = _parse(text)
    except yaml.YAMLError as error:
        return [Fault(path, f"has no valid YAML value: {text!r}: {_in_one_line(error)}.")]
    try:
        section: Any = values
        for key in parents:
            section = _enter(section, key)
        section[_index(section, last)] = value
    except LookupError as error:
        return [Fault(path, f"cannot be set: {error.args[0]}.")]
    return []


def _enter(section: Any, key: str) -> Any:
    index = _index(section, key)
    if isinstance(section, dict) and section.get(key) is None:
        section[key] = {}
    return section[index]


def _index(section: Any, key: str) -> int | str:
    """What `section` calls `key`: itself in a mapping, a number in a list."""
    if isinstance(section, dict):
        return key
    if not isinstance(section, list):
        raise LookupError(f"there is no `{key}` in {shorten(section)}")
    if not (key.isdecimal() and int(key) < len(section)):
        raise LookupError(f"`{key}` must be a number from 0 to {len(section) - 1} here")
    return int(key)


def _parse(text: str) -> Any:
    # A subclass of SafeLoader: it builds plain values only, and runs nothing.
    return yaml.load(text, Loader=_Loader)  # noqa: S506


def _in_one_line(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
