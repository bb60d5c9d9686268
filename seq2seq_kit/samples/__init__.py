"""Starter configs and the data they train on; `write_starter` copies both to where a user works.

The configs name their data relative to themselves, so they run where they lie and where they are
copied. The texts' origins and licences stand in `data/README.md`.
"""

import shutil
from pathlib import Path

from seq2seq_kit.errors import InputError

FOLDER = Path(__file__).parent
"""Where the starter configs lie, with their texts in `data`."""


def starter_files() -> list[Path]:
    """Returns what a starter consists of, relative to `FOLDER`: the configs, then their data."""
    configs = sorted(FOLDER.glob("*.yaml"))
    data = sorted(path for path in (FOLDER / "data").iterdir() if path.is_file())
    return [path.relative_to(FOLDER) for path in configs + data]


def write_starter(folder: str | Path) -> list[Path]:
    """Copies the starter configs and their data into a folder.

    Args:
        folder: Made if it does not exist. What else is in it stays untouched.

    Returns:
        The configs that were written.

    Raises:
        InputError: If a file to write is there already, or the folder cannot be made; then
            nothing is written.
    """
    folder = Path(folder)
    files = starter_files()
    present = [folder / file for file in files if (folder / file).exists()]
    if present:
        raise InputError(
            f"{folder} must not hold a starter yet, and nothing is overwritten."
            f" Received a folder with {present[0]}. Name another folder, or remove it."
        )
    try:
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be made ({error.strerror}). Name another one."
        ) from error
    for file in files:
        shutil.copyfile(FOLDER / file, folder / file)
    return [folder / file for file in files if file.suffix == ".yaml"]
