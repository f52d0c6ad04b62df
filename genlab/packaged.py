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


def is_own_program(name: str) -> bool:
    """Whether the file of this name in the current folder is the one of the clone from which this package runs."""
    return Path(name).is_file() and Path(name).resolve() == Path(__file__).resolve().parents[1] / name


def sweep_command(words: str) -> str:
    """The command line of the sweep program with these words: `python sweep.py run` or `genlab sweep run`."""
    return f"{'python sweep.py' if is_own_program('sweep.py') else 'genlab sweep'} {words}"


def command_for_sweep(name: str) -> str | None:
    """The command that runs the sweep of this name; None if there is none in the current folder or in genlab."""
    file = Path("sweeps", f"{name}.yaml")
    if file.is_file():
        return sweep_command(f"run {file}")
    return sweep_command(f"run {name}") if name in packaged_names("sweeps") else None


def find_program(name: str, sweep: Path | None = None) -> Path:
    """The program of a sweep: the file of this name, or for `train.py` the one that comes with genlab.

    The sweeps that come with genlab use its own train.py, whatever the current folder contains.

    Args:
        name: The program, as the sweep names it.
        sweep: The file of the sweep, if it has one.

    Raises:
        UsageError: there is no such file.
    """
    path, packaged = Path(name), sweep is not None and sweep.resolve().parent == packaged_folder("sweeps").resolve()
    if path.is_file() and (not packaged or name != "train.py" or is_own_program(name)):
        return path
    if name == "train.py":
        return Path(__file__).parent / "programs" / name
    raise UsageError(f"there is no program {name} of the sweep; start in the folder that holds it")
