"""Imports go one way, from the later stages to the earlier ones, as the map in CONTRIBUTING says.

Read from the source, so that imports inside functions count, and without running any module.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import seq2seq_kit

PACKAGE = Path(seq2seq_kit.__file__).parent

SHARED = (
    "errors",
    "bounds",
    "special_ids",
    "files",
    "atomic",
    "digests",
    "archive",
    "startup",
    "forking",
    "interruption",
    "machine",
    "options",
    "keras_registration",
)
"""Modules at the top that every stage may import."""

STAGES = (
    "config",
    "text",
    "tokens",
    "data",
    "model",
    "pretrained",
    "training",
    "inference",
    "export",
    "insight",
    "fitting",
    "seq2seq",
    "augmenting",
    "distillation",
    "serving",
    "speech",
    "packing",
    "samples",
    "cli",
    "__main__",
)
"""Each may import from those before it."""


def module_name(path: Path) -> str:
    """The name of a module within the package: `data.plan`, and `data` for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imported_names(path: Path) -> Iterator[str]:
    """Each module, or name in one, that a module imports anywhere in it, without the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] == "seq2seq_kit":
                yield name.partition(".")[2]


# The package gives out names of its modules; its version is its own.
GIVEN_OUT = {name.rpartition(".")[2]: name for name in imported_names(MODULES["__init__"])}


def imports_of(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports."""
    for name in imported_names(path):
        name = GIVEN_OUT.get(name, name)
        if name in MODULES or name.rpartition(".")[0] in MODULES:
            yield name if name in MODULES else name.rpartition(".")[0]
        else:
            assert name == "__version__", f"{path} imports {name}, which is in no module"


GRAPH = {name: set(imports_of(path)) for name, path in MODULES.items() if name != "__init__"}


def test_every_module_has_its_stage() -> None:
    tops = {name.partition(".")[0] for name in GRAPH}
    assert tops == {*SHARED, *STAGES, "decoding"}


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_a_module_imports_only_what_comes_before_it(name: str) -> None:
    stage = name.partition(".")[0]
    if stage in SHARED:
        allowed = set(SHARED)
    elif stage == "decoding":
        allowed = {"errors", "decoding"}
    else:
        allowed = {*SHARED, *STAGES[: STAGES.index(stage) + 1]}
        if STAGES.index(stage) >= STAGES.index("model"):
            allowed.add("decoding")
    assert not {one for one in GRAPH[name] if one.partition(".")[0] not in allowed}


def test_no_module_imports_itself_over_others() -> None:
    done: set[str] = set()
    while free := {name for name in GRAPH.keys() - done if GRAPH[name] <= done}:
        done |= free
    assert not GRAPH.keys() - done, "these import each other"
