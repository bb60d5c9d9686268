"""Writes the reference pages of the site from the code; mkdocs calls `on_page_markdown`.

A page has a comment where the generated part belongs: the keys of a config from the fields'
docstrings, the commands and their options from click, the modules from their docstrings.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import seq2seq_kit
from seq2seq_kit.cli.main import cli
from seq2seq_kit.cli.options import SearchCommand
from seq2seq_kit.config import Config, DecodingConfig

Schema = Mapping[str, Any]

# The stages, in the order in which they may import each other; "" is the package itself.
_FOLDERS = (
    "",
    "config",
    "text",
    "tokens",
    "data",
    "model",
    "pretrained",
    "training",
    "decoding",
    "inference",
    "export",
    "insight",
    "serving",
    "speech",
    "cli",
    "samples",
)
# In the order of the page; the title of each section, and the keys under which it is written.
_SECTIONS = {
    "DataConfig": ("data", "data"),
    "CorpusConfig": ("A corpus", "data.train[]"),
    "InitConfig": ("Weights to start from", "init_from"),
    "TokenizerConfig": ("tokenizer", "tokenizer"),
    "ModelConfig": ("model", "model"),
    "TrainingConfig": ("training", "training"),
    "EarlyStoppingConfig": ("training.early_stopping", "training.early_stopping"),
    "DecodingConfig": ("decoding", "decoding"),
    "AdaptationConfig": ("adaptation", "adaptation"),
}
_ANCHORS = {
    "CorpusConfig": ("a corpus", "a-corpus"),
    "VocabularyConfig": ("a section with the keys of `tokenizer`", "tokenizer"),
    "InitConfig": ("weights to start from", "weights-to-start-from"),
    "EarlyStoppingConfig": ("`training.early_stopping`", "trainingearly_stopping"),
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Returns a page with the generated part instead of its comment."""
    generated: dict[str, Callable[[], str]] = {
        "<!-- config reference -->": config_reference,
        "<!-- command line reference -->": command_line_reference,
        "<!-- map of the code -->": map_of_the_code,
    }
    for comment, generate in generated.items():
        if comment in markdown:
            markdown = markdown.replace(comment, generate())
    return markdown


def config_reference() -> str:
    """Returns Markdown with every key of a config: its values, its default and its meaning."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    top = {key: value for key, value in schema["properties"].items() if "$ref" not in value}
    parts = ["## Top level", *_keys("", top, definitions)]
    for name, (title, prefix) in _SECTIONS.items():
        properties = definitions[name]["properties"]
        described = inspect.cleandoc(definitions[name]["description"])
        parts += [f"## {title}", described, *_keys(prefix, properties, definitions)]
    return "\n\n".join(parts)


def _keys(prefix: str, properties: Schema, definitions: Schema) -> Iterator[str]:
    for key, schema in properties.items():
        path = f"{prefix}.{key}" if prefix else key
        yield f"### `{key}` {{ #{path.replace('[]', '')} }}"
        on_resume = " A resumed run may change it." if "may_change_on_resume" in schema else ""
        yield f"{_as_sentence(_values(schema))} {_default(schema)}{on_resume}"
        # pydantic leaves out a description that equals that of the section referred to.
        section = definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else {}
        yield inspect.cleandoc((section | schema)["description"])


def _as_sentence(words: str) -> str:
    """Returns words with a capital, unless they begin with code, and a period."""
    first = 1 if words.startswith("[") else 0
    return f"{words[:first]}{words[first : first + 1].upper()}{words[first + 1 :]}."


def _values(schema: Schema) -> str:
    """Returns in words which values a key can have."""
    if "$ref" in schema:
        return _link(schema)
    if "anyOf" in schema:
        options = [_values(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(options)
    if "enum" in schema:
        *others, last = (f"`{value}`" for value in schema["enum"])
        return f"{', '.join(others)} or {last}"
    kind = schema.get("type")
    if kind == "array":
        items = schema["items"]
        return f"{_values(items)}, or a list of them" if items else "a column or a list of columns"
    if kind == "boolean":
        return "`true` or `false`"
    if kind == "string":
        return "a path" if schema.get("format") == "path" else "text"
    if kind in ("integer", "number"):
        return _range(schema)
    raise ValueError(f"The reference has no words for {schema}.")


def _range(schema: Schema) -> str:
    noun = "a whole number" if schema["type"] == "integer" else "a number"
    low, high = _number(schema, "minimum"), _number(schema, "maximum")
    if low and high:
        return f"{noun} from {low} to {high}"
    limits = [
        f"above {_number(schema, 'exclusiveMinimum')}" if "exclusiveMinimum" in schema else "",
        f"{low} or more" if low else "",
        f"below {_number(schema, 'exclusiveMaximum')}" if "exclusiveMaximum" in schema else "",
        f"at most {high}" if high else "",
    ]
    return f"{noun}, {' and '.join(filter(None, limits))}"


def _number(schema: Schema, key: str) -> str:
    value = schema.get(key)
    if value is None:
        return ""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _link(schema: Schema) -> str:
    name = schema["$ref"].rsplit("/", 1)[-1]
    words, anchor = _ANCHORS[name]
    return f"[{words}](#{anchor})"


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return "Required."
    match schema["default"]:
        case None:
            return "Optional."
        case dict():  # a section, whose keys have their own
            return ""
        case bool() as value:
            return f"Default: `{str(value).lower()}`."
        case []:
            return "Default: none."
        case [value]:
            return f"Default: `{value}`."
        case " ":
            return "Default: a space."
        case value:
            return f"Default: `{value}`."


def command_line_reference() -> str:
    """Returns Markdown with every command: its usage, its help and its options."""
    parts: list[str] = []
    search_options: list[click.Parameter] = []
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=f"s2s {name}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        parts += [f"## {name}", f"```text\n{' '.join(usage.split())}\n```"]
        parts.append(_plain(inspect.cleandoc(command.help or "")))
        parts += _options(command.params, context)
        own = [*command.params, command.get_help_option(context)]
        generated = [one for one in command.get_params(context) if one not in own]
        if isinstance(command, SearchCommand):
            names = {*DecodingConfig.model_fields, "greedy"}
            search_options = [one for one in generated if one.name in names]
            parts += _options([one for one in generated if one.name not in names], context)
            parts.append("And the [search options](#search-options).")
        else:
            parts += _options(generated, context)
    context = click.Context(cli)
    parts += [
        "## Search options",
        "Of `generate`, `evaluate`, `rerank`, `augment`, `distill` and `export`.",
    ]
    return "\n\n".join([*parts, *_options(search_options, context)])


def _options(options: Sequence[click.Parameter], context: click.Context) -> Iterator[str]:
    for option in options:
        record = option.get_help_record(context)
        is_shared = option.opts[-1] in ("--debug", "--help")
        if isinstance(option, click.Option) and record is not None and not is_shared:
            yield f"`{record[0]}`\n:   {_plain(record[1])}"


def _plain(text: str) -> str:
    """Returns text in which only backticks mean something in Markdown."""
    parts = text.split("`")
    parts[::2] = [
        re.sub(r"([\\\[\]*_|])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]
    ]
    return "`".join(parts)


def map_of_the_code() -> str:
    """Returns Markdown with every module and the first line of its docstring."""
    package = Path(seq2seq_kit.__file__).parent
    found = {path.parent.name for path in package.glob("*/__init__.py")}
    if missing := found - set(_FOLDERS):
        raise ValueError(f"The map must name every folder. Missing: {sorted(missing)}.")
    parts = []
    for folder in _FOLDERS:
        parts.append(f"## `{folder}`" if folder else "## At the top")
        parts.append(_first_line(package / folder / "__init__.py"))
        modules = sorted((package / folder).glob("[!_]*.py"))
        rows = [f"| `{path.stem}` | {_first_line(path)} |" for path in modules]
        parts.append("\n".join(["| module | |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return _plain(docstring.split("\n")[0])
