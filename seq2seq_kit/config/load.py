"""Configs from and to YAML: with overrides, with paths made absolute, sealed in a run folder.

Relative paths of the corpora start from `data.root`, others from the folder of the config file. A
saved config contains paths that stay valid if everything is moved together.
"""

import importlib.metadata
import operator
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from seq2seq_kit import __version__, bounds
from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.config.decoding import DecodingConfig
from seq2seq_kit.config.faults import Fault, explain, list_faults
from seq2seq_kit.config.section import Section
from seq2seq_kit.config.sections import Config, DataConfig, as_corpus, as_origin
from seq2seq_kit.config.yaml import FLOATS, apply_override, read_yaml, unshared
from seq2seq_kit.digests import digest
from seq2seq_kit.errors import ConfigError, RunError, shorten
from seq2seq_kit.files import why_not_regular

FORMAT_VERSION = 1
_END = "..."  # YAML's mark of a document's end

# Every key is written into a saved config. One that is missing there is younger than the run, which
# must answer as it did before.
_MEANT_BY_ABSENCE = {
    ("decoding", "max_loop_characters"): 0,
    ("decoding", "sample"): False,
    ("decoding", "temperature"): 1.0,
    ("decoding", "top_p"): 1.0,
}


def load_config(
    config: str | Path | Mapping[str, Any] | Config, overrides: Sequence[str] = ()
) -> Config:
    """Reads and checks a config, and makes its paths absolute.

    The files that it names are not looked at yet: `text.checks.check_files` does that.

    Args:
        config: A YAML file, or what such a file would hold. Relative paths start from the file's
            folder, for a mapping from the current folder; those of the corpora from `data.root`.
        overrides: `key.path=value` each, the value in YAML: `training.epochs=3`. An entry of a
            list is called by its number from 0, `data.train.0.weight=2`, a single one too.

    Returns:
        The config with nothing left open.

    Raises:
        ConfigError: If anything is wrong; the message lists every fault under its key.
    """
    if isinstance(overrides, str | Mapping):
        raise ConfigError(
            f"`overrides` must be a list of texts such as 'training.epochs=3'. Received: "
            f"{shorten(overrides)}."
        )
    return _resolve(*_read_values(config), overrides)


def _resolve(
    name: str, folder: Path, values: dict[str, Any], overrides: Sequence[str] = ()
) -> Config:
    """Does what `load_config` does, with what `_read_values` gives."""
    faults = _check_format_version(values)
    if overrides:
        _write_out_short_forms(values)
        name = f"{name} with its overrides"
    for override in overrides:
        faults += apply_override(values, override)
    _drop_sampling_options(values, overrides)
    if faults:
        raise ConfigError(list_faults(name, faults))
    try:
        checked = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(list_faults(name, explain(error, values, Config))) from error
    return _with_absolute_paths(checked, folder)


class SavedConfig(NamedTuple):
    """What the config of a run folder says."""

    config: Config
    """The resolved config; its paths are absolute."""
    run: str | None
    """What the checkpoints of the same run say too; None for runs of older versions."""
    files: dict[str, str]
    """The SHA-256 of each file that belongs to it, by name; empty for runs of older versions."""


def load_saved_config(path: Path) -> SavedConfig:
    """Returns what `save_config` wrote.

    Raises:
        RunError: If the file is damaged or was edited.
    """
    try:
        if reason := why_not_regular(path, bounds.MAX_RECORD_BYTES):
            raise ConfigError(f"{path} cannot be read ({reason}).")
        text = path.read_text("utf-8")
        # A file that lost its end can be a config too, with defaults for what is lost.
        body, end, seal = text.rpartition(f"\n{_END}\n")
        if not end and not text.endswith(f"\n{_END}"):
            raise ConfigError(
                f"{path} does not end with a line `{_END}`: its end was lost, or removed in an "
                f"edit. To keep an edit, add that line."
            )
        if end and seal.strip() and seal.strip() != _sealing(body + end):
            raise ConfigError(
                f"{path} is not as it was written: it was edited, or is damaged. To keep an edit, "
                f"remove the lines after `{_END}`."
            )
        name, folder, values = _read_values(path)
        run, files = values.get("run"), values.get("files", {})
        # Written without quotes, one name in a thousand looks like a number.
        if isinstance(run, float) and (name_of_run := re.search(r"^run: (\w+)$", text, re.M)):
            run = name_of_run[1]
        for (section, key), meaning in _MEANT_BY_ABSENCE.items():
            if isinstance(values.get(section), dict):
                values[section].setdefault(key, meaning)
        return SavedConfig(_resolve(name, folder, values), run, files)
    except (ConfigError, UnicodeDecodeError) as error:
        problem = error if isinstance(error, ConfigError) else f"{path} is not UTF-8."
        raise RunError(
            f"The config of the run folder {path.parent} cannot be used. {problem} Fix the file, "
            f"or restore it from a copy."
        ) from error


class _Dumper(yaml.SafeDumper):
    """Escapes the line ends of Unicode, which would be read back as newlines or spaces."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if {"\x85", "\u2028", "\u2029"} & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver(*FLOATS)


def save_config(
    config: Config,
    path: str | Path,
    *,
    run: str | None = None,
    files: Mapping[str, str] | None = None,
) -> None:
    """Writes a config as YAML, headed by the versions of the format and of the packages.

    Args:
        config: The config. An absolute path in it is written as one from the folder of the file
            (or from `data.root`), or from the home folder: it says nothing about the machine, and
            is found again where all has moved together.
        path: The file, written whole or not at all.
        run: What the checkpoints of the run say too.
        files: The SHA-256 of each file that belongs to it, by name.
    """
    path = Path(path)
    values: dict[str, Any] = {"format_version": FORMAT_VERSION, "versions": package_versions()}
    if run is not None:
        values |= {"run": run, "files": dict(files or {})}
    portable = _with_portable_paths(config, Path(os.path.realpath(path.parent)))
    values |= portable.model_dump(mode="json")
    if config.tokenizer.source is not None:
        # Beside two vocabularies the keys of a shared one have no effect.
        values["tokenizer"] = {side: values["tokenizer"][side] for side in ("source", "target")}
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, explicit_end=True)
    write_bytes(path, f"{text}{_sealing(text)}\n".encode(), "The config")


def _sealing(text: str) -> str:
    """Returns the lines that follow a saved config, which identify a damaged or edited one."""
    return (
        f"# SHA-256 of all lines above: {digest(text.encode())}\n"
        "# Remove these lines if you change any of them."
    )


def without_folders(config: Config) -> Config:
    """Returns a config whose paths say only which files they were, not where.

    A corpus is named from `data.root`, anything else, or a corpus elsewhere, by its name alone.
    """
    root = config.data.root

    def below_root(path: Path) -> Path:
        return path.relative_to(root) if path.is_relative_to(root) else name(path)

    def name(path: Path) -> Path:
        return Path(path.name)

    data = config.data.model_copy(update={"root": Path()})
    return _with_paths(config, data, of_corpus=below_root, of_file=name, of_run=name)


def package_versions(*others: str) -> dict[str, str]:
    """Returns the versions of what a run depends on, and of other packages.

    Imports nothing: TensorFlow alone would take two seconds.
    """
    versions = {"seq2seq_kit": __version__}
    for package in ("tensorflow", "keras", "sentencepiece", "numpy", *others):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions | {"python": platform.python_version()}


def _read_values(
    config: str | Path | Mapping[str, Any] | Config,
) -> tuple[str, Path, dict[str, Any]]:
    """Returns what to call the config in messages, the folder of its paths, and its values."""
    if isinstance(config, Config):
        # What was not given stays open: `rules` may fill it in with what suits the data.
        return "config", Path.cwd(), config.model_dump(exclude_unset=True)
    if isinstance(config, Mapping):
        try:
            return "config", Path.cwd(), unshared(config)
        except yaml.YAMLError as error:
            raise ConfigError(f"config: {error}.") from error
    path = Path(config)
    return str(path), path.absolute().parent, read_yaml(path)


def _write_out_short_forms(values: dict[str, Any]) -> None:
    """Writes a corpus or a run that is a path alone as a section, so that its keys can be set."""
    if "init_from" in values:
        values["init_from"] = as_origin(values["init_from"])
    data = values.get("data")
    if not isinstance(data, dict):
        return
    for name in {"train", "validation", "test"} & data.keys():
        corpora = data[name]
        if isinstance(corpora, list):
            data[name] = [as_corpus(corpus) for corpus in corpora]
        else:
            data[name] = as_corpus(corpora)


def _drop_sampling_options(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Removes the file's options for sampling where an override turns sampling off."""
    keys = {override.partition("=")[0] for override in overrides}
    decoding = values.get("decoding")
    if "decoding.sample" in keys and isinstance(decoding, dict) and decoding.get("sample") is False:
        for name in DecodingConfig.sampling_options():
            if f"decoding.{name}" not in keys:
                decoding.pop(name, None)


def _check_format_version(values: dict[str, Any]) -> list[Fault]:
    """Takes the head of a saved config off; only an unknown format is a fault."""
    if "format_version" in values:
        for name in ("versions", "run", "files"):
            values.pop(name, None)
    version = values.pop("format_version", FORMAT_VERSION)
    if version == FORMAT_VERSION:
        return []
    message = (
        f"must be {FORMAT_VERSION}, the format that this version of seq2seq_kit reads."
        f" Received: {shorten(version)}. Use the version of seq2seq_kit that wrote the file."
    )
    return [Fault("format_version", message)]


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    root = _absolute(config.data.root, folder)
    data = config.data.model_copy(update={"root": root})
    return _with_paths(
        config,
        data,
        of_corpus=lambda path: _absolute(path, root),
        of_file=lambda path: _absolute(path, folder),
        of_run=lambda path: _absolute_or_name(path, folder),
    )


def _with_portable_paths(config: Config, folder: Path) -> Config:
    """Returns a config with paths that `_with_absolute_paths` takes back to the same files."""
    root = config.data.root
    data = config.data.model_copy(update={"root": _portable(root, folder)})
    return _with_paths(
        config,
        data,
        of_corpus=lambda path: _portable(path, root),
        of_file=lambda path: _portable(path, folder),
        of_run=lambda path: _portable(path, folder),
    )


def _with_paths(
    config: Config,
    data: DataConfig,
    *,
    of_corpus: Callable[[Path], Path],
    of_file: Callable[[Path], Path],
    of_run: Callable[[Path], Path],
) -> Config:
    """Changes the paths of corpora, of tokenizer models, and of the run to start from."""
    corpora = {
        name: _map_paths(getattr(data, name), of_corpus) for name in ("train", "validation", "test")
    }
    data = _replaced(data, corpora)
    sections = {
        "data": data,
        "tokenizer": _map_paths(config.tokenizer, of_file),
        "init_from": _map_paths(config.init_from, of_run),
    }
    return _replaced(config, sections)


def _map_paths(value: Any, change: Callable[[Path], Path]) -> Any:
    """Changes every path in a section; what has none stays the same object."""
    if isinstance(value, Path):
        return change(value)
    if isinstance(value, tuple):
        items = tuple(_map_paths(item, change) for item in value)
        return value if all(map(operator.is_, items, value)) else items
    if isinstance(value, Section):
        return _replaced(value, {name: _map_paths(item, change) for name, item in value})
    return value


def _replaced(section: Section, fields: Mapping[str, Any]) -> Any:
    """Returns a section with other values; one that stays must not count as given."""
    changed = {name: new for name, new in fields.items() if new is not getattr(section, name)}
    return section.model_copy(update=changed) if changed else section


def _absolute(path: Path, folder: Path) -> Path:
    """Makes a path start from `folder`."""
    # Unlike `Path.resolve`, it raises no error for a link that leads to itself: opening the file
    # will.
    absolute = os.path.realpath(folder / path.expanduser())
    try:
        absolute.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"The path {shorten(absolute)} must be UTF-8, as the config is in which a run keeps it."
            f" Rename the file or folder."
        ) from error
    return Path(absolute)


def _absolute_or_name(path: Path, folder: Path) -> Path:
    """Makes the path of a run absolute; the name of a packaged model stays relative."""
    absolute = _absolute(path, folder)
    is_name = path.name == str(path) and not absolute.exists()
    return path if is_name else absolute


def _portable(path: Path, folder: Path) -> Path:
    """Makes an absolute path start from `folder`, or from the home folder if that is not in it.

    A path from elsewhere into a home folder would hold the user's name.
    """
    if not path.is_absolute():
        return path
    with suppress(RuntimeError):  # There is no home folder.
        home = Path(os.path.realpath(Path.home()))
        if path.is_relative_to(home) and not folder.is_relative_to(home):
            return Path("~", path.relative_to(home))
    try:
        return Path(os.path.relpath(path, folder))
    except ValueError:  # Another drive of Windows.
        return path
