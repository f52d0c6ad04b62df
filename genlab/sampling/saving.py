"""Writes results whole: all files or none, a folder with everything or no folder."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from genlab.media import Save, write_files
from genlab.runs.errors import UsageError


def save(files: Mapping[Path, Save]) -> None:
    """Writes all of these files, or none.

    Raises:
        UsageError: One of them cannot be written.
    """
    try:
        write_files(files)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename} ({error.strerror or error})") from error


def check_new(folder: Path) -> None:
    """Checks that a folder is empty or does not exist, so that nothing is overwritten or mixed with other files.

    Raises:
        UsageError: It has files, or is a file.
    """
    if folder.is_dir():
        if any(folder.iterdir()):
            raise UsageError(f"--output {folder} has files already; give another folder, or empty it")
    elif folder.exists():
        raise UsageError(f"--output {folder} is a file; name a folder for the images")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder, which becomes `folder` at the end; after an error or Ctrl-C nothing of it is left.

    Raises:
        UsageError: The folder has files, or cannot be written.
    """
    check_new(folder)
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = Path(temporary, folder.name)  # with the permissions of any new folder
            made.mkdir()
            yield made
            made.replace(folder)
    except OSError as error:
        raise UsageError(f"cannot write {folder} ({error.strerror or error})") from error
