"""The packaged models by name.

Each is a folder in `models/`: a run folder whose weights are stored small (`compact`), without a
state of training, and with a card. Knows nothing of networks, so that listing them is quick.
"""

from dataclasses import dataclass
from pathlib import Path

from seq2seq_kit.errors import InputError, suggest
from seq2seq_kit.files import user_path
from seq2seq_kit.pretrained.card import PackedCard, parse_card

FOLDER = Path(__file__).parent / "models"
"""The folder of the packaged models."""

CARD = "card.md"
"""The name of a model's card in its folder."""

MAX_MODEL_BYTES = 10_000_000
"""The largest size of a packaged model, so that the package stays small."""
MAX_TOTAL_BYTES = 45_000_000
"""The largest size of all packaged models together."""


@dataclass(frozen=True)
class PretrainedModel:
    """A packaged model."""

    name: str
    """What `Seq2Seq.load` and the commands call it."""
    folder: Path
    """Where it is."""

    @property
    def card(self) -> str:
        """The card as it is printed, Markdown."""
        return (self.folder / CARD).read_text(encoding="utf-8")

    @property
    def metadata(self) -> PackedCard:
        """The head of the card: summary, languages, data, license, scores and so on."""
        return parse_card(self.card, str(self.folder / CARD), PackedCard)[0]

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return folder_size(self.folder)


def folder_size(folder: Path) -> int:
    """Returns the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def list_models() -> list[PretrainedModel]:
    """Returns the packaged models, sorted by name.

    Example:

        for model in list_models():
            print(model.name, model.size, model.metadata.summary)
    """
    return [PretrainedModel(name, FOLDER / name) for name in model_names()]


def model_names() -> list[str]:
    """Returns the names of the packaged models, sorted."""
    return sorted(card.parent.name for card in FOLDER.glob(f"*/{CARD}"))


def find_model(name: str) -> PretrainedModel:
    """Returns a packaged model.

    Raises:
        InputError: If there is none of that name.
    """
    if name not in model_names():
        raise InputError(f"There is no packaged model `{name}`. {suggest_model(name)}")
    return PretrainedModel(name, FOLDER / name)


def suggest_model(name: str) -> str:
    """Returns a hint after an unknown name: the closest name, and all names."""
    names = model_names()
    if not names:
        return "No models come with this installation."
    suggestion = suggest(name, names)
    known = f"Known: {', '.join(names)}."
    return suggestion if suggestion == known else f"{suggestion} {known}"


def run_path(run: str | Path) -> Path:
    """Returns the folder of a run, or of the packaged model that has this name.

    What exists at the path comes first: a folder `de-en` is not the model `de-en`.
    """
    path = user_path(run)
    if not path.exists() and str(path) in model_names():
        return FOLDER / path
    return path
