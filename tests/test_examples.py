"""The examples: short, compilable, pinned to versions beside ours; and their parts without engines.

`benchmarks/examples.py` runs them whole.
"""

import ast
import configparser
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from seq2seq_kit.cli.text_io import escape

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.rglob("*.py"))


def parts(name: str, **given: Any) -> dict[str, Any]:
    """The functions of an example, compiled without its imports, which are not installed here."""
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        function.decorator_list, function.returns = [], None
        for argument in function.args.args + function.args.kwonlyargs:
            argument.annotation = None
    module = ast.Module(list[ast.stmt](functions), [])
    exec(compile(module, name, "exec"), given)
    return given


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_compiles(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    compile(text, str(path), "exec")
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize("engine", ["beam", "ray", "spark"])
def test_versions_of_an_example_are_pinned_beside_ours(engine: str) -> None:
    lines = (EXAMPLES / f"generate_with_{engine}.txt").read_text(encoding="utf-8").splitlines()
    pinned = {one.name: one.specifier for one in map(Requirement, lines)}
    config = configparser.ConfigParser()
    config.read(EXAMPLES.parent / "setup.cfg", encoding="utf-8")
    ours = [line.split(";")[0] for line in config["options"]["install_requires"].splitlines()]
    known = {one.name: one.specifier for one in (Requirement(line) for line in ours if line)}
    assert known["tensorflow"].contains("2.21.0")
    assert pinned.pop("tensorflow").contains("2.21.0")
    assert not pinned.pop("tensorflow-text").contains("2.21.0")  # It does not import.
    assert all(str(specifier).startswith("==") for specifier in pinned.values())


def test_lines_are_written_as_the_command_writes_them() -> None:
    for text in ("plain", "a\nb", "back\\slash", "\\n", ""):
        escaped = escape(text)
        assert parts("generate_with_beam")["as_line"](7, text) == f"7\t{escaped}"
        assert parts("generate_with_ray")["as_line"](text) == f"{escaped}\n"
        assert parts("generate_with_spark")["as_line"](text.encode()) == escaped


def test_lines_for_beam_are_numbered_and_split_at_newlines_only() -> None:
    data = io.BytesIO("a\r\n\nb\u2028c\x0cd\n最".encode())
    files = SimpleNamespace(open=lambda _path: data)
    numbered = parts("generate_with_beam", FileSystems=files)["numbered_lines"]("path")
    assert list(numbered) == [(0, "a"), (1, ""), (2, "b\u2028c\x0cd"), (3, "最")]


def test_processes_that_train_together_know_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train_in_two_processes as example

    addresses = [f"127.0.0.1:{example.free_port()}" for _ in range(2)]
    assert json.loads(example.environment(addresses, 1)["TF_CONFIG"]) == {
        "cluster": {"worker": addresses},
        "task": {"type": "worker", "index": 1},
    }
    sys.modules.pop("train_in_two_processes")


def test_the_compose_file_serves_what_its_comment_exports() -> None:
    folder = EXAMPLES / "tf_serving"
    text = (folder / "compose.yaml").read_text(encoding="utf-8")
    (service,) = yaml.safe_load(text)["services"].values()
    assert f"models/{service['environment']['MODEL_NAME']}/1 " in text
    assert (folder / "batching.txt").exists()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
