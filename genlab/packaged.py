"""The configs, sweeps and the training program that come with genlab, found from any folder."""

from pathlib import Path
from typing import Literal

from genlab.runs.errors import UsageError
from genlab.suggestions import did_you_mean

Kind = Literal["configs", "sweeps"]
NOUNS = {"configs": "config", "sweeps": "sweep"}


def packaged_folder(kind: Kind) -> Path:
    """The folder of the configs or sweeps that come with genlab: in the installed package, or beside it in a clone."""
    package = Path(__file__).parent
    installed = package / kind
    return installed if installed.is_dir() else package.parent / kind


def packaged_names(kind: Kind) -> list[str]:
    """Their names, without `.yaml`."""
    return sorted(path.stem for path in packaged_folder(kind).glob("*.yaml"))


def find_file(name: str, kind: Kind) -> Path:
    """The file of this path, or the one with this name that comes with genlab: `gan_mnist`, `configs/gan_mnist.yaml`.

    Raises:
        UsageError: there is no such file; suggests the name that was probably meant.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.parent in (Path(), Path(kind)) and path.suffix in ("", ".yaml"):
        for folder in (Path(kind), packaged_folder(kind)):
            if (folder / f"{path.stem}.yaml").is_file():
                return folder / f"{path.stem}.yaml"
    known = [*(file.stem for file in Path(kind).glob("*.yaml")), *packaged_names(kind)]
    raise UsageError(f"there is no {NOUNS[kind]} {name}{did_you_mean(path.stem, known)}")


def find_program(name: str) -> Path:
    """The program of a sweep: the file of this name, or for `train.py` the one that comes with genlab.

    Raises:
        UsageError: there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    if name == "train.py":
        return Path(__file__).parent / "programs" / name
    raise UsageError(f"there is no program {name} of the sweep; start in the folder that holds it")
