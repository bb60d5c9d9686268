"""Each notebook runs whole, as a reader would run it, and shows what its text promises."""

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


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], NotebookNode]:
    """A function that runs a notebook in an empty folder; a cell that fails raises."""
    monkeypatch.setenv("S2S_CACHE_DIR", str(tmp_path / "cache"))
    # The notebooks ask tempfile for a folder; under pytest's own it is cleared away in time.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def run(name: str) -> NotebookNode:
        (path,) = (path for path in NOTEBOOKS if path.stem == name)
        return NotebookClient(
            nbformat.read(path, as_version=4),
            kernel_name="python3",
            timeout=300,
            resources={"metadata": {"path": str(tmp_path)}},
        ).execute()

    return run


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


def has_picture(notebook: NotebookNode, code: str) -> bool:
    return any("image/png" in output.get("data", {}) for output in outputs(notebook, code))


def numbers(pattern: str, text: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


def assert_learnt(notebook: NotebookNode, at_most: float) -> None:
    """The validation loss fell by 0.3 nats or more, to a perplexity of less than `at_most`."""
    log = shown(notebook, 'run_dir=folder / "run")')
    losses = numbers(r"validation loss ([\d.]+)", log)
    assert len(losses) >= 5
    assert min(losses) < losses[0] - 0.3
    assert min(numbers(r"perplexity ([\d.]+)", log)) < at_most
    assert has_picture(notebook, "plot_history")
    assert "Trainable params" in shown(notebook, ".summary()")


def test_translation(execute: Callable[[str], NotebookNode]) -> None:
    notebook = execute("01_translation")
    assert_learnt(notebook, at_most=8)
    rows = [re.split(r"  +", row) for row in shown(notebook, "greedy =").splitlines()]
    assert [len(row) for row in rows] == [3] * 4
    beam = [row[2] for row in rows]
    # Whatever the machine's arithmetic, most of such frequent sentences come out right.
    likely = {"I love you.", "Where is Tom?", "Where's Tom?", "Can you help me?"}
    assert len(likely.intersection(beam)) >= 2
    ranked = numbers(r"(?m)^ +(-[\d.]+)", shown(notebook, "num_hypotheses=3"))
    assert len(ranked) == 3
    assert ranked == sorted(ranked, reverse=True)
    right, other, wrong = numbers(r"log_prob=(-[\d.]+)", shown(notebook, "translator.score("))
    assert right > other > wrong
    assert has_picture(notebook, "plot_attention")
    assert shown(notebook, "Seq2Seq.load(") == "True"
    served = shown(notebook, 'served["outputs"]').splitlines()
    assert [re.split(r"\d  ", row)[1] for row in served] == beam


def test_continuation(execute: Callable[[str], NotebookNode]) -> None:
    notebook = execute("02_continuation")
    assert_learnt(notebook, at_most=40)
    continued = shown(notebook, "writer.generate(prompts, echo=True)").strip().split("\n\n")
    prompts = ["春天到了，万物复苏。", "今天天气很好，", "我小的时候，", "他喜欢"]
    for prompt, text in zip(prompts, continued, strict=True):
        assert text.startswith(prompt)
        assert len(text) > len(prompt) + 5
    assert re.search("[。？！]", continued[0].removeprefix(prompts[0]))
    *samples, other_seed = shown(notebook, "num_hypotheses=3").splitlines()
    samples.append(other_seed.removeprefix("seed=2: "))
    assert len(set(samples)) == 4
    assert len(shown(notebook, "for temperature in").splitlines()) == 3
    assert len(shown(notebook, "greedy =").splitlines()) == 3 * len(prompts)
    pieces = shown(notebook, "writer.stream(").split("|")
    assert len(pieces) > 5
    assert (prompts[1] + "".join(pieces)).rstrip() == continued[1]
    assert shown(notebook, "generate(state=copy") == "True"
    sentence, backwards = numbers(r"([\d.]+)\n", shown(notebook, "perplexity(writer"))
    assert 10 * sentence < backwards
    assert has_picture(notebook, "plt.bar")
    for cell in ("prose.generate(", "verse.generate("):
        for prompt, text in zip(prompts, shown(notebook, cell).strip().split("\n\n"), strict=True):
            assert text.startswith(prompt)
    # A poem is lines of five or seven characters.
    verse = shown(notebook, "verse.generate(").replace("\n", "")
    assert re.search(r"[，。]([^，。]{5}|[^，。]{7})[，。]", verse)
    assert shown(notebook, "loaded = Seq2Seq.load(") == "True"


def test_inside_an_lstm(execute: Callable[[str], NotebookNode]) -> None:
    notebook = execute("03_inside_an_lstm")
    attends, holds, forgets = numbers(r"([\d.]+)%", shown(notebook, "} exact"))
    assert min(attends, holds) > 90 > 50 > forgets
    assert max(numbers(r"([\d.]+e-\d+)", shown(notebook, "np.vstack"))) < 1e-5
    trained, *held = (row[12:] for row in shown(notebook, "insight.intervene(").splitlines())
    assert len(held) == 3
    assert trained not in held
    links = shown(notebook, "insight.Aligner").splitlines()[0].split()
    assert [int(link.split("-")[1]) for link in links] == list(range(len(trained.split())))
    changes = numbers(r"(?m)^ +(-?[\d.]+)", shown(notebook, "insight.leave_out"))
    assert len(changes) == len("▁我不知道他在哪里。")
    assert min(changes) < -1
    assert has_picture(notebook, "plot_gates")
    assert has_picture(notebook, "plot_attention")


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
    assert has_picture(notebook, "specgram")
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
