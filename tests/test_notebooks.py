"""Notebooks: what a reader sees is what their texts promise, and every cell runs.

The stored outputs are those of a whole run. Here each notebook runs with fewer data and steps, so
that its models learn little: what must hold of any model is checked of both runs, what only a
trained one does of the stored outputs.
"""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb"))
MACHINE_PATH = re.compile(r"/(home|opt|root|tmp|usr|var|Users)/|[A-Z]:\\\\")

# By notebook: passages of its code, and what replaces them in the run here.
SHORTER: dict[str, dict[str, str]] = {
    "01_translation": {
        "20_000": "4_000",
        '("dev.tsv", 300)': '("dev.tsv", 40)',
        '"epochs": 3': '"epochs": 1',
        '"validate_every": 200': '"validate_every": 20',
    },
    "02_continuation": {
        "if len(line) <= 10]": "if len(line) <= 10][:1500]",
        '"epochs": 2': '"epochs": 1',
        '"validate_every": 250': '"validate_every": 20',
        '"max_steps": 60': '"max_steps": 2',
    },
    "03_inside_an_lstm": {"[:11_000": "[:1_500", "epochs=3": "epochs=1"},
    "04_speech": {},
}


def stored(name: str) -> NotebookNode:
    """A notebook with the outputs that its readers see."""
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    return nbformat.read(path, as_version=4)


def shortened(name: str) -> NotebookNode:
    """A notebook whose trainings take seconds."""
    notebook = stored(name)
    for passage, shorter in SHORTER[name].items():
        (cell,) = (cell for cell in code_cells(notebook) if passage in cell.source)
        cell.source = cell.source.replace(passage, shorter)
    return notebook


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], NotebookNode]:
    """A function that runs a shortened notebook in an empty folder; a cell that fails raises."""
    monkeypatch.setenv("S2S_CACHE_DIR", str(tmp_path / "cache"))
    # The notebooks ask tempfile for a folder; under pytest's own it is cleared away in time.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def run(name: str) -> NotebookNode:
        executed = NotebookClient(
            shortened(name),
            kernel_name="python3",
            timeout=300,
            resources={"metadata": {"path": str(tmp_path)}},
        ).execute()
        assert list(map(kinds, code_cells(executed))) == list(map(kinds, code_cells(stored(name))))
        return executed

    return run


def kinds(cell: NotebookNode) -> set[str]:
    """The kinds of values and pictures that a cell shows, such as image/png."""
    return {kind for output in cell.outputs for kind in output.get("data", {})}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode, code: str) -> list[NotebookNode]:
    """What the one cell that contains `code` gave."""
    (cell,) = (cell for cell in code_cells(notebook) if code in cell.source)
    return cell.outputs


def shown(notebook: NotebookNode, code: str) -> str:
    """What the one cell that contains `code` printed, or its last value."""
    return "".join(
        output.text if output.output_type == "stream" else output.data["text/plain"]
        for output in outputs(notebook, code)
        if output.get("name") != "stderr"
    )


def numbers(pattern: str, text: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


def assert_learnt(notebook: NotebookNode, at_most: float) -> None:
    """The validation loss fell by 0.3 nats or more, to a perplexity of less than `at_most`."""
    log = shown(notebook, 'run_dir=folder / "run")')
    losses = numbers(r"validation loss ([\d.]+)", log)
    assert len(losses) >= 5
    assert min(losses) < losses[0] - 0.3
    assert min(numbers(r"perplexity ([\d.]+)", log)) < at_most


def test_translation_of_the_stored_run_is_good() -> None:
    notebook = stored("01_translation")
    assert_learnt(notebook, at_most=8)
    rows = shown(notebook, "greedy =").splitlines()
    beam = [re.split(r"  +", row)[2] for row in rows]
    # Whatever the machine's arithmetic, most of such frequent sentences come out right.
    likely = {"I love you.", "Where is Tom?", "Where's Tom?", "Can you help me?"}
    assert len(likely.intersection(beam)) >= 2
    right, other, wrong = numbers(r"log_prob=(-[\d.]+)", shown(notebook, "translator.score("))
    assert right > other > wrong


def test_translation_runs(execute: Callable[[str], NotebookNode]) -> None:
    for notebook in (stored("01_translation"), execute("01_translation")):
        ranked = numbers(r"(?m)^ +(-[\d.]+)", shown(notebook, "num_hypotheses=3"))
        assert len(ranked) == 3
        assert ranked == sorted(ranked, reverse=True)
        assert shown(notebook, "Seq2Seq.load(") == "True"
        assert "Trainable params" in shown(notebook, ".summary()")
        beam = shown(notebook, "greedy =").splitlines()
        served = shown(notebook, 'served["outputs"]').splitlines()
        assert len(beam) == 4
        for row, answer in zip(beam, served, strict=True):
            assert row.endswith(answer[10:])


def test_continuation_of_the_stored_run_is_good() -> None:
    notebook = stored("02_continuation")
    assert_learnt(notebook, at_most=40)
    continued = shown(notebook, "writer.generate(prompts, echo=True)").strip().split("\n\n")
    for prompt, text in zip(PROMPTS, continued, strict=True):
        assert len(text) > len(prompt) + 5
    assert re.search("[。？！]", continued[0].removeprefix(PROMPTS[0]))
    sentence, backwards = numbers(r"([\d.]+)\n", shown(notebook, "perplexity(writer"))
    assert 10 * sentence < backwards
    # A poem is lines of five or seven characters.
    verse = shown(notebook, "verse.generate(").replace("\n", "")
    assert re.search(r"[，。]([^，。]{5}|[^，。]{7})[，。]", verse)


PROMPTS = ["春天到了，万物复苏。", "今天天气很好，", "我小的时候，", "他喜欢"]


def test_continuation_runs(execute: Callable[[str], NotebookNode]) -> None:
    for notebook in (stored("02_continuation"), execute("02_continuation")):
        assert "Trainable params" in shown(notebook, ".summary()")
        *samples, other_seed = shown(notebook, "num_hypotheses=3").splitlines()
        samples.append(other_seed.removeprefix("seed=2: "))
        assert len(set(samples)) == 4
        assert len(shown(notebook, "for temperature in").splitlines()) == 3
        assert len(shown(notebook, "greedy =").splitlines()) == 3 * len(PROMPTS)
        continued = shown(notebook, "writer.generate(prompts, echo=True)")
        pieces = shown(notebook, "writer.stream(").split("|")
        assert len(pieces) > 5
        assert (PROMPTS[1] + "".join(pieces)).rstrip() in continued
        assert shown(notebook, "generate(state=copy") == "True"
        for cell in ("writer.generate(prompts, echo", "prose.generate(", "verse.generate("):
            text = f"\n\n{shown(notebook, cell)}"
            places = [text.index(f"\n\n{prompt}") for prompt in PROMPTS]
            assert places == sorted(places)
        assert shown(notebook, "loaded = Seq2Seq.load(") == "True"


def test_lesson_inside_an_lstm_shows_what_attention_and_gates_do() -> None:
    notebook = stored("03_inside_an_lstm")
    attends, holds, forgets = numbers(r"([\d.]+)%", shown(notebook, "} exact"))
    assert min(attends, holds) > 90 > 50 > forgets


def test_lesson_inside_an_lstm_runs(execute: Callable[[str], NotebookNode]) -> None:
    for notebook in (stored("03_inside_an_lstm"), execute("03_inside_an_lstm")):
        assert len(numbers(r"([\d.]+)%", shown(notebook, "} exact"))) == 3
        assert max(numbers(r"([\d.]+e-\d+)", shown(notebook, "np.vstack"))) < 1e-5
        trained, *held = (row[12:] for row in shown(notebook, "insight.intervene(").splitlines())
        assert len(held) == 3
        assert trained not in held
        links = shown(notebook, "insight.Aligner").splitlines()[0].split()
        assert [int(link.split("-")[1]) for link in links] == list(range(len(trained.split())))
        changes = numbers(r"(?m)^ +(-?[\d.]+)", shown(notebook, "insight.leave_out"))
        assert len(changes) == len("▁我不知道他在哪里。")
        assert min(changes) < -1


def test_speech(execute: Callable[[str], NotebookNode]) -> None:
    pytest.importorskip("espeakng_loader")
    notebook = execute("04_speech")
    rows = [re.split(r"  +", row) for row in shown(notebook, "speaker.pronounce(").splitlines()]
    origins = {word: origin for word, _, origin in rows}
    assert origins["Doctor"] == "dictionary"
    assert origins["XKCD"] == "letters"
    assert origins["snorfblat"] == "model"
    scores = numbers(r"(?m)^ +(-[\d.]+)", shown(notebook, "num_hypotheses=3"))
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert "HH AH L OW W ER L D" in shown(notebook, '("Hello, world!")\nprint')
    normal, fast, slow = numbers(r"([\d.]+) seconds", shown(notebook, "whisper"))
    assert fast < normal < slow
    assert shown(notebook, "speech.save") == "['hello.wav']\n"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_of_one_whole_run_and_name_no_machine(path: Path) -> None:
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not MACHINE_PATH.search(str([cell.outputs for cell in cells]))
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_cell_installs_on_colab_and_none_defines_what_the_package_should(path: Path) -> None:
    first, *others = (cell.source for cell in code_cells(nbformat.read(path, as_version=4)))
    assert '"google.colab" in sys.modules' in first
    assert "%pip install" in first
    assert not [source for source in others if re.search(r"^\s*(def|class) ", source, re.MULTILINE)]
