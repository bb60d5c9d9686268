"""`s2s models`: the list, a card, and names that do not exist."""

from pathlib import Path

import pytest
import yaml
from untrained import CARD

from seq2seq_kit.cli import main
from seq2seq_kit.pretrained import catalog

PACKING = {"weights": "int8", "lines": 2, "different_outputs": 0}
MEASURED = {"perplexity_before": 3.5, "perplexity_after": 3.5}


@pytest.fixture
def packed_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The card of the only packaged model, ab-xy."""
    added = {"task": "translation", "parameters": 1234567, "packing": PACKING | MEASURED}
    card = CARD.replace("---\n#", f"{yaml.safe_dump(added)}---\n#")
    (tmp_path / "ab-xy").mkdir()
    (tmp_path / "ab-xy" / "card.md").write_text(card)
    (tmp_path / "ab-xy" / "best.npz").write_bytes(bytes(2_345_678))
    monkeypatch.setattr(catalog, "FOLDER", tmp_path)
    return card


def test_models_are_listed_with_size_data_license_and_scores(
    packed_card: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models"]) == 0
    assert capsys.readouterr().out == (
        "ab-xy: Letters to other letters\n"
        "  task     translation (en)\n"
        "  size     2.3 MB, 1,234,567 parameters\n"
        "  data     Forty words, invented\n"
        "  license  CC0\n"
        "  scores   BLEU 12.5\n"
    )


def test_a_name_prints_its_card(packed_card: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "ab-xy"]) == 0
    assert capsys.readouterr().out == packed_card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "ab-yx"], "no packaged model `ab-yx`. Did you mean `ab-xy`? Known: ab-xy"),
        (["generate", "ab-yx", "--prompt", "a"], "Did you mean `ab-xy`?"),
    ],
)
def test_an_unknown_name_is_wrong_usage(
    packed_card: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_installation_without_models_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalog, "FOLDER", tmp_path)
    assert main(["models"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "No models come with this installation.\n")
