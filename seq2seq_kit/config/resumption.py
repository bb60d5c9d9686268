"""Which settings a resumed run must share with its start.

The fields give the rule: a field annotated with `MAY_CHANGE` may have a new value, and so may all
keys of a section that is annotated with it. Everything else is fixed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seq2seq_kit.config.section import MAY_CHANGE, Section
from seq2seq_kit.config.sections import Config, InitConfig
from seq2seq_kit.errors import shorten


def changed_settings(saved: Config, config: Config) -> list[str]:
    """Returns a line for each fixed setting that differs, such as `model.units: 32 then, 16 now`.

    Args:
        saved: The config that the run was started with.
        config: The config to resume it with.
    """
    before, now = fixed_settings(saved), fixed_settings(config)
    return [
        f"{key}: {shorten(before.get(key))} then, {shorten(now.get(key))} now"
        for key in sorted(before | now)
        if before.get(key) != now.get(key)
    ]


def fixed_settings(config: Config) -> dict[str, Any]:
    """Returns what a resumed run cannot change, under dotted keys.

    A path is replaced by a mark: a file may be moved, and its contents are compared elsewhere. A
    packaged model keeps its name.
    """
    return dict(_fixed_below(config, ""))


def _fixed_below(section: Section, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if field.json_schema_extra == MAY_CHANGE.json_schema_extra:
            continue
        if isinstance(value, Section):
            yield from _fixed_below(value, f"{prefix}{name}.")
        elif isinstance(section, InitConfig) and name == "run" and not value.is_absolute():
            yield f"{prefix}{name}", str(value)  # A packaged model.
        else:
            yield f"{prefix}{name}", _without_paths(value)


def _without_paths(value: Any) -> Any:
    if isinstance(value, Path):
        return "a file"
    if isinstance(value, tuple):
        return [_without_paths(item) for item in value]
    if isinstance(value, Section):
        return {name: _without_paths(item) for name, item in value}
    return value
