"""YAML to plain values, and `key.path=value` overrides of them. Knows nothing of the sections."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from seq2seq_kit import bounds
from seq2seq_kit.config.faults import Fault
from seq2seq_kit.errors import ConfigError, shorten
from seq2seq_kit.files import why_not_regular

_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}


class _Loader(yaml.SafeLoader):
    """YAML as people write it: `1e-3` is a number, and a key given twice is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._num_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        self._num_nodes += 1
        if self._depth > bounds.MAX_NESTING:
            _refuse(_TOO_DEEP, self.peek_event())
        if self._num_nodes > bounds.MAX_VALUES:
            _refuse(_TOO_MANY, self.peek_event())
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        if node.tag in _NUMBERS and len(node.value) > bounds.MAX_DIGITS:
            _refuse(f"a number has {len(node.value):,} characters", node)
        try:
            node.value.encode("utf-8")
            return super().construct_object(node, deep)
        except UnicodeEncodeError:
            _refuse(f"half of a surrogate pair is no text: {shorten(node.value)}", node)
        except (AttributeError, LookupError, ValueError) as error:
            # An impossible date, or a tag that does not fit: these are Python's own errors.
            _refuse(f"{shorten(node.value)} has no value ({error})", node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                _refuse(f"a key must be a text. Received: {shorten(key)}", key_node)
            if key in seen:
                _refuse(f"the key {shorten(key)} is given twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


_TOO_DEEP = f"values are nested more than {bounds.MAX_NESTING} deep"
_TOO_MANY = f"there are more than {bounds.MAX_VALUES:,} values"


def _refuse(problem: str, where: Any) -> NoReturn:
    """Raises an error at a node or event of the file."""
    raise yaml.constructor.ConstructorError(None, None, problem, where.start_mark)


# PyYAML follows YAML 1.1, where a float needs a dot and a signed exponent: `1e-3` would be a text.
FLOATS = (
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
"""The resolver of floats as people write them. Who writes YAML that is read here needs it too, so
that a text such as `12e5` gets quotes."""

_Loader.add_implicit_resolver(*FLOATS)


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns what a YAML file of sections holds.

    Raises:
        ConfigError: If the file cannot be read, is not YAML, or holds no sections.
    """
    if reason := why_not_regular(path):
        raise ConfigError(f"{path}: cannot be read as a config: {reason}.")
    try:
        if path.stat().st_size > bounds.MAX_CONFIG_BYTES:
            raise ConfigError(
                f"{path}: a config has at most {bounds.MAX_CONFIG_BYTES:,} bytes, this file has "
                f"{path.stat().st_size:,}. Name the YAML file of a config."
            )
        # utf-8-sig: some editors put a byte order mark before the first key.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a config: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8, but byte {error.start} is not.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Returns what a text in YAML holds under its keys.

    Args:
        text: The text.
        name: What to call it in messages, such as the path of its file.

    Raises:
        ConfigError: If it is not YAML, or holds no keys.
    """
    try:
        values = unshared(_parse(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: is not valid YAML: {_in_one_line(error)}.") from error
    if not isinstance(values, dict):
        received = "an empty file" if values is None else shorten(values)
        raise ConfigError(
            f"{name}: must hold sections such as `data:` and `model:`. Received: {received}."
        )
    return values


def unshared(value: Any) -> Any:
    """Returns a copy of plain values in which no part is there twice, as YAML's aliases are.

    Raises:
        yaml.YAMLError: If they are nested too deep, as what holds itself is, or are too many.
    """
    num_left = bounds.MAX_VALUES

    def copy(value: Any, depth: int) -> Any:
        nonlocal num_left
        num_left -= 1
        if num_left < 0:
            raise yaml.YAMLError(_TOO_MANY)
        if depth > bounds.MAX_NESTING:
            raise yaml.YAMLError(_TOO_DEEP)
        if isinstance(value, Mapping):
            return {key: copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [copy(item, depth + 1) for item in value]
        return value

    return copy(value, 0)


def apply_override(values: dict[str, Any], override: str) -> list[Fault]:
    """Sets one `key.path=value` in `values`, where a section left out begins empty.

    Args:
        values: A config as plain values; changed in place.
        override: The key, an equals sign and the value in YAML. An entry of a list is called by
            its number, counted from 0; so is a single entry without a list around it.

    Returns:
        The fault, if there is one. Whether the key means anything is not known here.
    """
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        return [Fault(override, "must be written key.path=value, such as training.epochs=3.")]
    try:
        value = unshared(_parse(text))
    except yaml.YAMLError as error:
        return [Fault(path, f"has no valid YAML value: {shorten(text)}: {_in_one_line(error)}.")]
    try:
        section: Any = values
        for key, inner in itertools.pairwise(keys):
            section = _enter(section, key, inner)
        section[_index(section, keys[-1])] = value
    except LookupError as error:
        return [Fault(path, f"cannot be set: {error.args[0]}.")]
    return []


def _enter(section: Any, key: str, inner: str) -> Any:
    """Returns what `section` holds under `key`, so that `inner` can be set in it."""
    index = _index(section, key)
    entry = section.get(index) if isinstance(section, dict) else section[index]
    if entry is None:
        entry = section[index] = {}
    if inner.isdecimal() and not isinstance(entry, list):
        entry = section[index] = [entry]
    return entry


def _index(section: Any, key: str) -> int | str:
    """What `section` calls `key`: itself in a mapping, a number in a list."""
    if isinstance(section, dict):
        return key
    if not isinstance(section, list):
        raise LookupError(f"there is no `{key}` in {shorten(section)}")
    # No list has more entries than six digits can number, and int() takes no longer ones gladly.
    if not (key.isdecimal() and len(key) <= 6 and int(key) < len(section)):
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
