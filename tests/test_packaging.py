"""What is installed is what the clone holds; the bundled configs and texts are what they say."""

import ast
import configparser
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from untrained import CARD, untrained_run

import seq2seq_kit
from seq2seq_kit import packing, samples
from seq2seq_kit.config import load_config
from seq2seq_kit.packing import pack_run
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.text.checks import check_files
from seq2seq_kit.text.corpus import read_corpus
from seq2seq_kit.text.lines import count_lines, read_lines

ROOT = Path(__file__).parents[1]
STARTERS = sorted(samples.FOLDER.glob("*.yaml"))
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DATA = samples.FOLDER / "data"


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> dict[str, Requirement]:
    lines = [line for line in text.splitlines() if line]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def test_every_sample_file_is_package_data() -> None:
    patterns = setup_cfg()["options.package_data"]["seq2seq_kit.samples"].split(", ")
    names = [file.as_posix() for file in samples.starter_files()]
    assert {"translation.yaml", "continuation.yaml", "data/README.md"} < set(names)
    assert [n for n in names if not any(fnmatch.fnmatch(n, p) for p in patterns)] == []


def test_every_file_of_the_page_is_package_data() -> None:
    pattern = setup_cfg()["options.package_data"]["seq2seq_kit.serving"]
    folder = ROOT / "seq2seq_kit" / "serving"
    assert sorted(folder.glob(pattern)) == sorted((folder / "page").rglob("*"))
    assert (folder / "page" / "index.html").is_file()


@pytest.mark.parametrize(
    ("system", "machine", "has_wheel"),
    [
        ("Linux", "x86_64", True),
        ("Linux", "aarch64", True),
        ("Darwin", "arm64", True),
        ("Windows", "AMD64", False),
    ],
)
def test_tensorflow_text_is_required_where_it_has_wheels(
    system: str, machine: str, has_wheel: bool
) -> None:
    required = requirements(setup_cfg()["options"]["install_requires"])
    marker = required["tensorflow-text"].marker
    assert marker is not None
    environment = {"platform_system": system, "platform_machine": machine}
    assert marker.evaluate(environment) is has_wheel


def test_tensorflow_text_matches_tensorflow_and_skips_its_broken_release() -> None:
    required = requirements(setup_cfg()["options"]["install_requires"])
    assert "2.21.1" in required["tensorflow-text"].specifier
    assert "2.21.0" not in required["tensorflow-text"].specifier
    assert "2.21.0" in required["tensorflow"].specifier
    for name in ("tensorflow", "tensorflow-text"):
        assert "2.22.0" not in required[name].specifier


def test_public_names_load_and_are_the_listed_ones() -> None:
    tree = ast.parse((ROOT / "seq2seq_kit" / "__init__.py").read_text(encoding="utf-8"))
    typed = [
        (alias.name, node.module)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    loaded = {name: f"seq2seq_kit.{home}" for name, home in seq2seq_kit._MODULES.items()}
    assert dict(typed) == loaded
    assert sorted(loaded) == seq2seq_kit.__all__
    for name in seq2seq_kit.__all__:
        assert getattr(seq2seq_kit, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Seq3Seq'"):
        _ = seq2seq_kit.Seq3Seq


@pytest.mark.parametrize("path", CONFIGS + STARTERS, ids=lambda path: path.name)
def test_config_finds_its_files(path: Path) -> None:
    check_files(load_config(path))


@pytest.mark.parametrize("path", CONFIGS + STARTERS, ids=lambda path: path.name)
def test_config_has_a_comment_for_each_value(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r"\s+\w+: [^{]", line)]
    # The files of a second and third corpus are explained at the first.
    repeated = ("tsv:", "text:", "source_columns:", "target_columns:", "weight:", "join:", "type:")
    bare = [v for v in values if "#" not in v and not v.strip(" -").startswith(repeated)]
    assert bare == []


def test_attribution_goes_line_by_line_with_its_sentences() -> None:
    sentences = count_lines(DATA / "zh_simple_sentences.txt.gz")
    attributions = list(read_lines(DATA / "zh_simple_sentences.attribution.txt.gz"))
    assert len(attributions) == sentences
    assert all("tatoeba.org #" in line for line in attributions)


def test_data_readme_counts_the_lines_of_every_file() -> None:
    text = (DATA / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\S+)` \| ([\d,]+) \|", text, re.MULTILINE))
    counted = {
        path.name: f"{count_lines(path):,}" for path in DATA.iterdir() if path.name != "README.md"
    }
    assert listed == counted


def test_no_held_out_sentence_is_trained_on() -> None:
    config = load_config(samples.FOLDER / "translation.yaml")
    assert config.data.validation is not None
    assert config.data.test is not None
    trained = {side for pair in read_corpus(config.data.train[0]) for side in pair[1:]}
    for corpus in config.data.validation + config.data.test:
        assert trained.isdisjoint(side for pair in read_corpus(corpus) for side in pair[1:])


def test_the_workflow_runs_each_python_that_is_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    job = workflow["jobs"]["test"]
    promised = re.findall(r"Python :: (3\.\d+)", setup_cfg()["metadata"]["classifiers"])
    assert job["strategy"]["matrix"]["python"] == promised
    assert job["steps"][-1]["run"] == ".ci/run"


def test_hooks_before_a_commit_run_what_make_lint_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for hook in config["repos"][0]["hooks"]:
        tool = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --fix")
        assert f"$(BIN)/{tool}" in makefile


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permission")
def test_ci_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.slow
def test_an_installed_wheel_answers_by_the_name_of_a_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone, site = folder / "clone", folder / "site"
    ignored = shutil.ignore_patterns("__pycache__", "models")
    shutil.copytree(ROOT / "seq2seq_kit", clone / "seq2seq_kit", ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    (folder / "card.md").write_text(CARD, encoding="utf-8")
    run = untrained_run(folder, decoding={"max_length": 5, "beam_size": 1}).path
    models = clone / "seq2seq_kit" / "pretrained" / "models"
    measured = packing._Measured([], 3.0, None)
    monkeypatch.setattr(packing, "_measure", lambda *_: measured)  # Which takes most of the time.
    pack_run(run, "ab-xy", folder / "card.md", weights="bfloat16", num_lines=1, models=models)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", folder, clone], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    files = sorted(site.rglob("*"))
    for path in files:
        path.chmod(0o555)

    def s2s(*arguments: str) -> str:
        variables = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        variables |= {name: os.environ[name] for name in ("PATH",) if name in os.environ}
        command = [sys.executable, "-m", "seq2seq_kit", *arguments]
        ended = subprocess.run(
            command, cwd=folder, env=variables, check=True, capture_output=True, text=True
        )
        return ended.stdout

    assert s2s("models").startswith("ab-xy: Letters to other letters\n")
    expected = Seq2Seq.load(models / "ab-xy").generate(["ab"])
    assert s2s("generate", "ab-xy", "--prompt", "ab").splitlines() == expected
    assert sorted(site.rglob("*")) == files
    for path in files:
        path.chmod(0o755)  # So that pytest can remove them.
