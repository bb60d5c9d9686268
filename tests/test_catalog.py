"""Packaged models by name, and the rules that every one in the package keeps."""

import re
from pathlib import Path

import pytest

from seq2seq_kit.config import load_saved_config
from seq2seq_kit.digests import digest
from seq2seq_kit.errors import InputError
from seq2seq_kit.pretrained import catalog, list_models
from seq2seq_kit.pretrained.catalog import PretrainedModel, find_model, run_path


@pytest.fixture
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models with the names zh-prose and en-tales."""
    for name in ("zh-prose", "en-tales"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "card.md").write_text(f"# {name}\n")
    (tmp_path / "models" / "unfinished").mkdir()
    monkeypatch.setattr(catalog, "FOLDER", tmp_path / "models")
    return tmp_path / "models"


def test_models_are_listed_by_name(two_models: Path) -> None:
    assert [model.name for model in list_models()] == ["en-tales", "zh-prose"]
    assert list_models()[1].card == "# zh-prose\n"
    assert list_models()[1].size == len("# zh-prose\n")


def test_an_unknown_name_gets_the_closest_one_and_all(two_models: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_model("zh-pros")
    assert "Did you mean `zh-prose`? Known: en-tales, zh-prose." in str(caught.value)
    with pytest.raises(InputError, match=r"`fr`\. Known: en-tales, zh-prose\.$"):
        find_model("fr")


def test_a_name_resolves_to_the_folder_of_its_model(
    two_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_path("zh-prose") == run_path(Path("zh-prose")) == two_models / "zh-prose"
    assert run_path("runs/zh-prose") == Path("runs/zh-prose")
    assert run_path("./zh-pros") == Path("zh-pros")


def test_a_folder_comes_before_a_model_of_its_name(
    two_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zh-prose").mkdir()
    assert run_path("zh-prose") == Path("zh-prose")


def test_packaged_models_are_small() -> None:
    sizes = {model.name: model.size for model in list_models()}
    assert max(sizes.values(), default=0) <= catalog.MAX_MODEL_BYTES
    assert sum(sizes.values()) <= catalog.MAX_TOTAL_BYTES


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_a_packaged_model_is_whole_and_names_no_place(model: PretrainedModel) -> None:
    assert model.metadata.scores
    saved = load_saved_config(model.folder / "config.yaml")
    assert {"best.npz", "data.json"} < saved.files.keys()
    found = {name: digest((model.folder / name).read_bytes()) for name in saved.files}
    assert found == saved.files
    for path in (model.folder / "config.yaml", model.folder / "card.md"):
        assert not re.search(r"\.\./|(?<![\w.])/(home|tmp|work|root)/", path.read_text("utf-8"))
