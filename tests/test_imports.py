"""Imports point one way: rules about folders."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HELPERS = "genlab/*.py"
"""The modules beside genlab's packages."""
PARTS = ("lit_models/common", "lit_models/networks", "lit_models/losses")
MODELS_AND_DATA = ("lit_models", "datamodules")
MAY_IMPORT = {
    "lit_models/networks": ("lit_models/networks",),
    "lit_models/losses": ("lit_models/losses",),
    "lit_models/common": PARTS,
    "lit_models/*.py": PARTS,
    "lit_models/__init__.py": ("lit_models",),
    "datamodules": ("datamodules",),
    "genlab/metrics": ("genlab/metrics",),
    "genlab/runs": ("genlab/runs", HELPERS),
    "genlab/report": ("genlab/report", "genlab/runs", HELPERS),
    "genlab/sweep": ("genlab/sweep", "genlab/report", "genlab/runs", HELPERS),
    "genlab/evaluation": ("genlab/evaluation", "genlab/metrics", "genlab/runs", HELPERS, *MODELS_AND_DATA),
    "genlab/callbacks": (
        "genlab/callbacks",
        "genlab/evaluation",
        "genlab/metrics",
        "genlab/runs",
        HELPERS,
        *MODELS_AND_DATA,
    ),
    "genlab/sampling": ("genlab/sampling", "genlab/evaluation", "genlab/runs", HELPERS, *MODELS_AND_DATA),
    "genlab/cli": ("genlab", *MODELS_AND_DATA),
    "genlab/programs": ("genlab/cli", HELPERS),
    "genlab/__main__.py": ("genlab/cli",),
    HELPERS: (HELPERS, "genlab/runs", "genlab/metrics", *MODELS_AND_DATA),
    "*.py": ("genlab",),
}
"""For each folder, or all files of one, what its files may import of this project; the most exact entry holds."""
NO_MODEL = ("torch", "lightning", "lit_models", "datamodules")
HEAVY = {
    "genlab/report": (*NO_MODEL, "wandb"),
    "genlab/sweep": NO_MODEL,
    "genlab/sweep/cli.py": (*NO_MODEL, "wandb"),
    "genlab/sweep/engine.py": (*NO_MODEL, "wandb"),
    "genlab/runs/config.py": (*NO_MODEL, "wandb"),
    "genlab/runs/folder.py": (*NO_MODEL, "wandb"),
    "genlab/sampling/cli.py": (*NO_MODEL, "wandb"),
    "genlab/cli/main.py": (*NO_MODEL, "wandb"),
    "genlab/cli/listing.py": (*NO_MODEL, "wandb"),
    "genlab/cli/train.py": ("wandb",),
}
"""What a file must not import, itself or through others, when it is imported."""


def sources() -> list[Path]:
    folders = ("lit_models", "datamodules", "genlab")
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted([*inside, *(ROOT / f"{name}.py" for name in ("train", "sweep", "sample"))])


def module_file(name: str) -> Path | None:
    """The file of a module of this project."""
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def statements(nodes: list[ast.stmt], in_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports among statements; those for type checkers only count as those in functions."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        if not lazy or in_functions:
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from statements(getattr(node, field, []), in_functions)


@cache
def imported(path: Path, in_functions: bool) -> frozenset[str]:
    """The modules that a file imports: names from a package that are modules of this project, else the package."""
    names: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")).body, in_functions):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if module_file(name) else str(node.module) for name in inner}
    return frozenset(names)


def within(path: Path, place: str) -> bool:
    """Whether a file lies in a folder, or matches a pattern of files in one folder."""
    relative = path.relative_to(ROOT)
    folder, _, name = place.rpartition("/")
    if name.endswith(".py"):
        return relative.parent == Path(folder) and relative.match(name)
    return relative.is_relative_to(place)


def exactness(place: str) -> tuple[int, bool]:
    return place.count("/"), "*" not in place


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_folder_may(path: Path):
    rule = max((place for place in MAY_IMPORT if within(path, place)), key=exactness)
    ours = {
        name: file for name in imported(path, True) if (file := module_file(name)) and name.split(".")[0] != "tests"
    }
    forbidden = {name for name, file in ours.items() if not any(within(file, place) for place in MAY_IMPORT[rule])}
    assert not forbidden, f"files of {rule} may import only {', '.join(MAY_IMPORT[rule])}"


def reached(path: Path) -> dict[str, list[str]]:
    """Every module that importing a file imports, with the way to it."""
    found: dict[str, list[str]] = {}
    waiting = [(path, [str(path.relative_to(ROOT))])]
    while waiting:
        file, way = waiting.pop()
        for name in imported(file, False):
            parts = name.split(".")
            for whole in (".".join(parts[: n + 1]) for n in range(len(parts))):  # its packages are imported first
                if whole not in found:
                    found[whole] = [*way, whole]
                    if (inner := module_file(whole)) is not None:
                        waiting.append((inner, found[whole]))
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if any(within(path, place) for place in HEAVY)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_light_file_imports_nothing_heavy(path: Path):
    place = max((place for place in HEAVY if within(path, place)), key=exactness)
    ways = {name: way for name, way in reached(path).items() if name.split(".")[0] in HEAVY[place]}
    assert not ways, "; ".join(" -> ".join(way) for way in ways.values())


def test_no_modules_import_each_other():
    """Packages aside, whose `__init__` names what is in them."""
    graph = {
        path: {file for name in imported(path, False) if (file := module_file(name)) and file.name != "__init__.py"}
        for path in sources()
        if path.name != "__init__.py"
    }
    while leaves := {path for path, needed in graph.items() if not needed & graph.keys()}:
        graph = {path: needed for path, needed in graph.items() if path not in leaves}
    assert not graph


def test_no_module_hides_one_of_pythons_own():
    assert not {path.stem for path in sources() if path.parent == ROOT} & sys.stdlib_module_names
