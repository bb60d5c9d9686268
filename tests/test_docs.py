"""What the documentation shows exists: commands parse, configs load, names are public."""

import ast
import importlib.util
import inspect
import re
import shlex
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import seq2seq_kit
from seq2seq_kit.cli.main import cli
from seq2seq_kit.config import Config, load_config
from seq2seq_kit.config.section import Section

ROOT = Path(__file__).parents[1]
SITE = sorted((ROOT / "docs").rglob("*.md"))
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + [
    ROOT / folder / "README.md" for folder in ("benchmarks", "configs")
]
PAGES = [path for path in SITE + OTHERS if path.exists()]

every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a language; they may be indented."""
    text = page.read_text(encoding="utf-8")
    for _, body in re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.M | re.S):
        yield textwrap.dedent(body)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in the shell blocks, without redirections and pipes."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|\|", line):
                words = shlex.split(command, comments=True)
                end = next((place for place, word in enumerate(words) if word in "<>"), len(words))
                if words[:end]:
                    yield words[:end]


def parse(arguments: list[str]) -> click.Context:
    """The context in which `s2s` would run the arguments."""
    group = cli.make_context("s2s", list(arguments))
    name, command, rest = cli.resolve_command(group, arguments)
    assert command is not None
    return command.make_context(name, rest, parent=group)


@every_page
def test_commands_of_s2s_parse(page: Path) -> None:
    for words in commands(page):
        if Path(words[0]).name == "s2s":
            context = parse(words[1:])
            if overrides := context.params.get("overrides"):
                load_config({"data": {"train": "pairs.tsv"}}, overrides)


def test_a_command_with_an_unknown_option_would_be_noticed() -> None:
    with pytest.raises(click.NoSuchOption):
        parse(["generate", "runs/my", "--beamsize", "3"])


@every_page
def test_scripts_and_make_targets_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for words in commands(page):
        is_script = words[0] == "python" and not words[1].startswith("-")
        if is_script and Path(words[1]).name != "run.py":  # An export for LiteRT has that one.
            assert (ROOT / words[1]).is_file(), words
        if words[0] == "make":
            assert words[1] in targets, words


@every_page
def test_configs_load(page: Path) -> None:
    for block in blocks(page, "yaml"):
        values = yaml.safe_load(block)
        values.setdefault("data", {}).setdefault("train", "pairs.tsv")
        load_config(values)


@every_page
def test_python_compiles_and_names_exist(page: Path) -> None:
    source = (ROOT / "seq2seq_kit" / "seq2seq.py").read_text(encoding="utf-8")
    attributes = set(re.findall(r"    def ([a-z]\w*)|        self\.([a-z]\w*)", source))
    known = {name for pair in attributes for name in pair if name}
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        models = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "seq2seq_kit":
                public = {*seq2seq_kit.__all__, "insight"}
                assert {alias.name for alias in node.names} <= public
            if isinstance(node, ast.Assign) and "Seq2Seq." in ast.unparse(node.value):
                models |= {ast.unparse(target) for target in node.targets}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in models:
                assert node.attr in known, ast.unparse(node)


@every_page
def test_options_in_the_text_exist(page: Path) -> None:
    known = {"--help", "--version"}
    for command in cli.commands.values():
        for parameter in command.get_params(click.Context(command)):
            known.update(parameter.opts, parameter.secondary_opts)
    named = re.findall(r"`(--[a-z-]+)", page.read_text(encoding="utf-8"))
    if page.parent.name != "benchmarks":  # Its scripts have other options.
        assert set(named) <= known


@every_page
def test_config_keys_in_the_text_exist(page: Path) -> None:
    pattern = r"`((?:data|init_from|tokenizer|model|training|decoding)(?:\.[a-z_]+)+)(?:`|: )"
    for key in re.findall(pattern, page.read_text(encoding="utf-8")):
        if key.endswith((".json", ".md")):
            continue
        section: Any = Config
        for name in key.split("."):
            assert name in section.model_fields, key
            section = section_of(section.model_fields[name].annotation)


def section_of(annotation: Any) -> Any:
    """The section that a field holds, or one in the list that it holds; None for a value."""
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        return annotation
    inner = [section_of(one) for one in getattr(annotation, "__args__", ())]
    return next(filter(None, inner), None)


@pytest.mark.parametrize("page", [path for path in OTHERS if path.exists()], ids=str)
def test_links_lead_to_files(page: Path) -> None:
    # Those of the site are checked when it is built.
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.fixture(scope="module")
def hooks() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_config_reference_has_every_key(hooks: types.ModuleType) -> None:
    reference = hooks.config_reference()
    for name, field in Config.model_fields.items():
        section = section_of(field.annotation)
        for key in section.model_fields if section else [name]:
            assert f"### `{key}`" in reference
    assert (
        "### `units` { #model.units }\n\nA whole number from 1 to 16,384. Default: `512`.\n\n"
        in reference
    )
    assert "### `train` { #data.train }\n\n[A corpus](#a-corpus), or a list of them. R" in reference
    assert "`additive`, `multiplicative` or `none`. Default: `additive`." in reference


def test_the_command_line_reference_has_every_option(hooks: types.ModuleType) -> None:
    reference = hooks.command_line_reference()
    for name, command in cli.commands.items():
        assert f"## {name}\n\n```text\ns2s {name} " in reference
        for parameter in command.get_params(click.Context(command)):
            option = parameter.opts[-1]
            if option.startswith("--") and option not in ("--debug", "--help"):
                assert option in reference


def test_the_python_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: seq2seq_kit\.(\w+)$", text, re.M)
    assert sorted(shown) == seq2seq_kit.__all__


def test_the_map_names_every_module() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| in `seq2seq_kit/`.*?\n\n", text, re.M | re.S)
    named: dict[str, set[str]] = {}
    folder = ""
    for row in table.strip().splitlines()[2:]:
        _, label, modules, *_ = row.split("|")
        if label.strip():  # else more of the folder above
            folder = "".join(re.findall(r"`(\w+)/`", label))
        named.setdefault(folder, set()).update(re.findall(r"`(\w+)`", modules))
    package = ROOT / "seq2seq_kit"
    folders = ["", *(path.parent.name for path in package.glob("*/__init__.py"))]
    there = {name: {path.stem for path in (package / name).glob("[!_]*.py")} for name in folders}
    assert named == there


def test_decisions_are_listed() -> None:
    index = (ROOT / "docs" / "decisions" / "index.md").read_text(encoding="utf-8")
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for record in (ROOT / "docs" / "decisions").glob("0*.md"):
        assert f"({record.name})" in index
        assert f"decisions/{record.name}" in nav
        text = record.read_text(encoding="utf-8")
        assert text.startswith(f"# {record.name[:4]}: ")
        for part in ("Date: ", "## Context", "## Decision", "## Figures"):
            assert f"\n{part}" in text
