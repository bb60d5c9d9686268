"""Starter configs and the data that they train on; `write_starter` copies both to a user's folder.

The configs name their data relative to themselves, so they work here and wherever they are copied.
The origins and licences of the texts are in `data/README.md`.
"""

from pathlib import Path

from seq2seq_kit.atomic import write_bytes
from seq2seq_kit.errors import InputError

FOLDER = Path(__file__).parent
"""The folder of the starter configs, with their texts in `data`."""


def starter_files() -> list[Path]:
    """Returns the files of a starter relative to `FOLDER`: the configs, then their data."""
    configs = sorted(FOLDER.glob("*.yaml"))
    data = sorted(path for path in (FOLDER / "data").iterdir() if path.is_file())
    return [path.relative_to(FOLDER) for path in configs + data]


def write_starter(folder: str | Path) -> list[Path]:
    """Copies the starter configs and their data into a folder.

    Args:
        folder: The folder, created if it does not exist. Other files in it are not changed.

    Returns:
        The configs that were written.

    Raises:
        InputError: If a file to write exists with other contents, or the folder cannot be created;
            then nothing is written.
        RunError: If a file cannot be written, as on a full disk; then none of them is left.
    """
    folder = Path(folder)
    # Files that an interrupted copy has left are complete.
    files = [file for file in starter_files() if not _is_there(FOLDER / file, folder / file)]
    present = [folder / file for file in files if (folder / file).exists()]
    if present:
        raise InputError(
            f"{present[0]} exists and differs from the file that would be written. Nothing was"
            f" written or overwritten: name another folder."
        )
    try:
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be made ({error.strerror}). Name another one."
        ) from error
    try:
        for file in files:
            write_bytes(folder / file, (FOLDER / file).read_bytes(), "The starter")
    except BaseException:
        for file in files:
            (folder / file).unlink(missing_ok=True)
        raise
    return [folder / file for file in starter_files() if file.suffix == ".yaml"]


def _is_there(original: Path, copy: Path) -> bool:
    return copy.is_file() and copy.read_bytes() == original.read_bytes()
