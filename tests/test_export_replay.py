"""`s2s verify`: exports that were damaged or changed are refused, whole ones are not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from untrained import untrained_model

from seq2seq_kit.cli import main
from seq2seq_kit.errors import RunError
from seq2seq_kit.export import replay
from seq2seq_kit.export.folder import read_probes, write_digests
from seq2seq_kit.export.replay import replay_probes
from seq2seq_kit.export.verify import FreshAnswers

WEIGHTS = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    untrained_model(folder).export(folder / "export")
    return folder / "export"


def flip_a_bit_of_the_weights(path: Path) -> None:
    content = bytearray((path / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 64
    (path / WEIGHTS).write_bytes(content)


def swap_the_tokenizer(path: Path) -> None:
    # SentencePiece's model is in the graph: two of its pieces change places.
    content = (path / "saved_model.pb").read_bytes()
    swapped = content.replace(b"\x0a\x01a", b"\x0a\x01?").replace(b"\x0a\x01b", b"\x0a\x01a")
    (path / "saved_model.pb").write_bytes(swapped.replace(b"\x0a\x01?", b"\x0a\x01b"))


def edit_the_graph(path: Path) -> None:
    content = (path / "saved_model.pb").read_bytes()
    assert b"LogSoftmax" not in content
    (path / "saved_model.pb").write_bytes(content.replace(b"Softmax", b"Sigmoid"))


def remove_a_signature(path: Path) -> None:
    content = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(content.replace(b"\x0a\x05score", b"\x0a\x05scory"))


def edit_the_metadata(path: Path) -> None:
    text = (path / "metadata.json").read_text(encoding="utf-8")
    changed = text.replace('"max_length": 8', '"max_length": 9')
    (path / "metadata.json").write_text(changed, encoding="utf-8")


def edit_a_sample(path: Path) -> None:
    edit_a_probe(path, "sample")


def edit_a_probe(path: Path, signature: str = "serving_default") -> None:
    probes = read_probes(path)
    probes["answers"][signature]["outputs"][0] += "x"
    (path / "probes.json").write_text(json.dumps(probes), encoding="utf-8")


FAULTS: dict[Callable[[Path], None], str] = {
    flip_a_bit_of_the_weights: r"data-00000-of-00001 is damaged",
    swap_the_tokenizer: r"saved_model\.pb is damaged",
    edit_the_graph: r"saved_model\.pb is damaged",
    remove_a_signature: r"saved_model\.pb is damaged",
    edit_the_metadata: r"metadata\.json is damaged",
    edit_a_probe: r"probes\.json is damaged",
}


def test_a_whole_export_passes(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(whole)]) == 0
    said = capsys.readouterr().out
    assert f"{whole} is whole" in said
    assert "Signatures: describe, n_best, sample, score, serving_default." in said


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_planted_fault_is_caught(
    whole: Path, tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "changed"))
    fault(path)
    changed = [
        file.name
        for file in whole.rglob("*")
        if file.is_file() and (path / file.relative_to(whole)).read_bytes() != file.read_bytes()
    ]
    assert len(changed) == 1
    with pytest.raises(RunError, match=FAULTS[fault]):
        replay_probes(path)
    assert main(["verify", str(path)]) == 1


def answer(whole: Path, **changed: Any) -> Callable[..., FreshAnswers]:
    """Stands for the fresh process: what the whole export says there, but for some changes."""
    description = (whole / "metadata.json").read_text(encoding="utf-8")
    signatures = sorted([*json.loads(description)["signatures"], "describe"])
    said = FreshAnswers(signatures, description, read_probes(whole)["answers"])
    return lambda *_: said._replace(**changed)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (edit_the_metadata, r"metadata\.json was changed: the graph describes itself otherwise"),
        (edit_a_probe, r"`serving_default` gives other `outputs`.* in place of '.*x'"),
        (edit_a_sample, r"`sample` gives other `outputs`.* in place of '.*x'"),
    ],
)
def test_a_fault_is_caught_though_the_digests_were_written_again(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Path], None],
    message: str,
) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "changed"))
    fault(path)
    write_digests(path)
    monkeypatch.setattr(replay, "ask_fresh_process", answer(whole))
    with pytest.raises(RunError, match=message):
        replay_probes(path)


def test_a_missing_signature_is_named(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = ["describe", "n_best", "sample", "serving_default"]
    monkeypatch.setattr(replay, "ask_fresh_process", answer(whole, signatures=without))
    with pytest.raises(RunError, match="missing are score"):
        replay_probes(whole)


def test_scores_of_another_processor_may_differ_slightly(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = read_probes(whole)["answers"]
    for change, passes in ((1e-5, True), (0.1, False)):
        moved = [score + change for score in answers["n_best"]["scores"]]
        changed = answers | {"n_best": answers["n_best"] | {"scores": moved}}
        monkeypatch.setattr(replay, "ask_fresh_process", answer(whole, answers=changed))
        if passes:
            replay_probes(whole)
        else:
            with pytest.raises(RunError, match="`n_best` gives other `scores`"):
                replay_probes(whole)


def test_files_that_are_missing_or_were_added_are_named(whole: Path, tmp_path: Path) -> None:
    for name in ("probes.json", "metadata.json", "digests.json"):
        path = Path(shutil.copytree(whole, tmp_path / name))
        (path / name).unlink()
        with pytest.raises(RunError, match=r"missing|not listed"):
            replay_probes(path)
    path = Path(shutil.copytree(whole, tmp_path / "more"))
    (path / "assets" / "more.txt").parent.mkdir(exist_ok=True)
    (path / "assets" / "more.txt").touch()
    with pytest.raises(RunError, match=r"assets/more\.txt is not listed"):
        replay_probes(path)
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
