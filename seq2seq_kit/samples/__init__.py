"""Starter configs and the data they train on; `write_starter` copies both to where a user works.

The configs name their data relative to themselves, so they run where they lie and where they are
copied. The texts' origins and licences stand in `data/README.md`.
"""

from pathlib import Path

from seq2seq_kit.atomic import write_bytes
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
        InputError: If a file to write is there already with other contents, or the folder cannot
            be made; then nothing is written.
        RunError: If a file cannot be written, as on a full disk; none of them is left.
    """
    folder = Path(folder)
    # What an interrupted copy has left is as it should be.
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
