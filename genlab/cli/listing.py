"""Lists of models and data modules, read from their source files, so that nothing heavy is imported."""

import ast
import importlib.util
import re
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genlab.arguments import discard_output
from genlab.cli.docstrings import first_sentence
from genlab.packaged import packaged_folder
from genlab.yaml_files import read_yaml

AUTHOR = r"[A-Z][\w'’-]+"
PAPER = re.compile(
    rf"((?:{AUTHOR}, )*{AUTHOR}(?: et al\.| (?:and|&) {AUTHOR})?),? \(?((?:19|20)\d\d)\)?"
    r"(?:,? arXiv[: ]\s*(\d{4}\.\d{4,5}))?"
)
"""Authors and year, with an arXiv id or without."""


@dataclass
class Entry:
    """One class of a list."""

    name: str
    sentence: str
    paper: str
    configs: list[str]


def list_models() -> str:
    """All models, with their papers and configs."""
    return _table(entries("lit_models", "model"), "--model CLASS; --model.help CLASS shows the options of one")


def list_data() -> str:
    """All data modules, with their papers and configs."""
    return _table(entries("datamodules", "data"), "--data CLASS; --data.help CLASS shows the options of one")


def print_to_pipe(text: str) -> None:
    """Prints a text of which a reader such as `head` may take the first lines only."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        discard_output()


def entries(package: str, key: str) -> list[Entry]:
    """The classes in the files of a package that its `__all__` names, in alphabetical order, without abstract ones.

    Args:
        package: lit_models or datamodules.
        key: model or data: the key of a config that names such a class.
    """
    configs = _configs(key)
    found = [
        Entry(node.name, first_sentence(doc), _paper(doc), configs.get(node.name, []))
        for node in _classes(package)
        if (doc := ast.get_docstring(node) or "")
    ]
    return sorted(found, key=lambda entry: entry.name.casefold())


def _classes(package: str) -> Iterator[ast.ClassDef]:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    init = Path(spec.origin)
    for statement in ast.parse(init.read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.ImportFrom) or (statement.module or "").count(".") != 1:
            continue  # models and data modules stand at the top level of their package
        names = {alias.name for alias in statement.names}
        file = init.parent / f"{(statement.module or '').partition('.')[2]}.py"
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in names and node.bases and not _is_abstract(node):
                yield node


def _is_abstract(node: ast.ClassDef) -> bool:
    """Whether a class is an abstract base, an error or a protocol."""
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return bool(bases & {"ABC", "Protocol", "Exception", "RuntimeError", "Dataset", "NamedTuple"}) or any(
        isinstance(decorator, ast.Name) and decorator.id == "abstractmethod"
        for method in node.body
        if isinstance(method, ast.FunctionDef)
        for decorator in method.decorator_list
    )


def _paper(docstring: str) -> str:
    """The first paper with an arXiv id, else the first one, that the text above `Args:` names."""
    text = " ".join(docstring.partition("Args:")[0].split())
    papers = PAPER.findall(text)
    best = next((paper for paper in papers if paper[2]), papers[0] if papers else None)
    return "" if best is None else f"{best[0]} {best[1]}" + (f", arXiv {best[2]}" if best[2] else "")


def _configs(key: str) -> dict[str, list[str]]:
    """The packaged configs of each class."""
    found: dict[str, list[str]] = {}
    for file in sorted(packaged_folder("configs").glob("*.yaml")):
        named = read_yaml(file).get(key) or {}
        found.setdefault(str(named.get("class_path")).rpartition(".")[2], []).append(file.stem)
    return found


def _table(found: list[Entry], use: str) -> str:
    width = max(60, min(120, shutil.get_terminal_size((100, 24)).columns))
    lines = []
    for entry in found:
        lines.append(entry.name)
        paper = "" if entry.paper in entry.sentence else entry.paper
        facts = [entry.sentence, paper, f"configs: {', '.join(entry.configs)}" if entry.configs else ""]
        for fact in filter(None, facts):
            lines += textwrap.wrap(fact, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join([*lines, "", use])
