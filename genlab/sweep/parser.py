"""Parses the YAML file of a sweep and reports all errors in it, each with its line.

Source: W&B, "Sweep configuration options", https://docs.wandb.ai/models/sweeps/sweep-config-keys. Where that page says
nothing, the schema in https://github.com/wandb/sweeps applies.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from genlab.runs.config import SEED, short_key
from genlab.runs.errors import UsageError
from genlab.suggestions import did_you_mean
from genlab.sweep import distributions
from genlab.sweep.definition import (
    ARGUMENT_MACROS,
    LAUNCHER_MACROS,
    PROGRAM,
    VARIABLE,
    Definition,
    Hyperband,
    Keys,
    as_text,
    refuse_booleans,
)
from genlab.sweep.distributions import GRID_KINDS, Distribution, read_distribution
from genlab.words import counted
from genlab.yaml_files import check_yaml, read_text

METHODS = ("grid", "random", "bayes")
GOALS = ("minimize", "maximize")
REQUIRED_KEYS = ("method", "metric", "parameters", "command")
TEXT_KEYS = ("name", "program", "project", "entity", "description")
IGNORED_KEYS = ("apiVersion", "kind", "controller")
"""W&B defines these keys. They have no effect here."""
TOP_KEYS = (*REQUIRED_KEYS, *TEXT_KEYS, *IGNORED_KEYS, "early_terminate", "run_cap", "repeats")
SERVER_KEYS = ("job", "image_uri", "scheduler", "metrics")
"""W&B defines these keys. They cannot work without its server."""
METRIC_KEYS = ("name", "goal", "target")
HYPERBAND_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MACRO = re.compile(r"\$\{.*?\}")


LineError = tuple[int | None, str]
"""The line in the file, None if the error has no line, and the error message."""


class DefinitionError(UsageError):
    """A definition has errors. The message lists all of them with their lines.

    Args:
        path: The YAML file.
        errors: The errors.
        valid: What is valid of the definition, for further checks; None if nothing can be checked. It has at least one
            parameter, and may have no metric and no command.
    """

    def __init__(self, path: Path, errors: Sequence[LineError], valid: Definition | None = None) -> None:
        super().__init__(format_errors(path, errors))
        self.errors = errors
        self.valid = valid


def load_definition(path: Path, overrides: Sequence[str] = (), repeats: int | None = None) -> Definition:
    """Parses the YAML file of a sweep.

    Args:
        path: The YAML file.
        overrides: Texts `key=value[,value...]`. Each sets the values of a parameter, or adds a parameter.
        repeats: How many runs each point has, in place of the file's repeats or seeds; None for what the file says.

    Raises:
        UsageError: The file cannot be read.
        DefinitionError: It is not valid for W&B or for this program.
    """
    reader = _Reader(_Document(read_text(path, "sweep")))
    entries = reader.entries(overrides, repeats)
    definition = Definition(path=path, **{"name": path.stem, **entries}) if entries else None
    if reader.errors or definition is None:
        raise DefinitionError(path, reader.errors, definition)
    return definition


def format_errors(path: Path, errors: Sequence[LineError]) -> str:
    """Formats all errors of a file, one per line, sorted by their lines in the file."""
    ordered = sorted(errors, key=lambda error: math.inf if error[0] is None else error[0])
    lines = [message if line is None else f"line {line}: {message}" for line, message in ordered]
    return "\n  ".join([f"{path} has {counted(len(lines), 'error')}:", *lines])


class _Document:
    """A YAML document as plain JSON values, with the line of each key and list item and the errors in the YAML.

    Args:
        text: One YAML document.
    """

    def __init__(self, text: str) -> None:
        self.value: Any = None
        self.lines: dict[Keys, int] = {}
        self.errors: list[LineError] = []
        self._checked: set[int] = set()
        try:
            check_yaml(text, repeated_keys=True)  # they are reported below, all of them
            self._loader = yaml.SafeLoader(text)
            node = self._loader.get_single_node()
            self.value = None if node is None else self._build(node, ())
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or " ".join(str(error).split())
            self.errors.append((mark.line + 1 if mark else None, f"invalid YAML: {problem}"))

    def _build(self, node: yaml.Node, where: Keys) -> Any:
        self.lines.setdefault(where, node.start_mark.line + 1)
        if not isinstance(node, yaml.ScalarNode) and not node.tag.endswith((":map", ":seq")):
            self.errors.append((node.start_mark.line + 1, f"invalid YAML: the tag {node.tag} is not allowed"))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*where, str(index))) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, where: Keys) -> dict[str, Any]:
        if id(node) not in self._checked:  # an alias repeats the same node
            self._checked.add(id(node))
            self._check_keys(node)
        self._loader.flatten_mapping(node)  # resolves `<<`; a key can now occur twice, and the last one is valid
        built = {}
        for key, value in node.value:
            here = (*where, str(key.value))
            self.lines[here] = key.start_mark.line + 1
            built[str(key.value)] = self._build(value, here)
        return built

    def _check_keys(self, node: yaml.MappingNode) -> None:
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not key.tag.endswith((":str", ":merge")):
                kind = key.tag.rsplit(":", 1)[-1]
                self.errors.append((line, f"key {key.value} is read by YAML as a {kind}; put it in quotes"))
            elif key.value in first:
                self.errors.append((line, f"key {key.value!r} occurs twice, first in line {first[key.value]}"))
            else:
                first[key.value] = line

    def _scalar(self, node: yaml.Node) -> Any:
        line = node.start_mark.line + 1
        try:
            value = self._loader.construct_object(node)
            plain = isinstance(value, str | int | float | None)
        except ValueError:  # such as the date 2020-02-31
            value, plain = None, False
        if not plain:
            kind = node.tag.rsplit(":", 1)[-1]
            self.errors.append((line, f"{node.value} is read by YAML as a {kind}; put it in quotes"))
        elif isinstance(value, float) and not math.isfinite(value):
            self.errors.append((line, f"{node.value} is not finite"))
        return value


@dataclass(frozen=True)
class _Leaf:
    """One parameter.

    Args:
        path: Its keys, from the outermost block inwards.
        where: Its position in the file; empty for an override.
        distribution: Its distribution; None if it has errors.
    """

    path: Keys
    where: Keys
    distribution: Distribution | None


class _Reader:
    """Converts a document to the fields of a Definition; `errors` holds those of the file and of the overrides."""

    def __init__(self, document: _Document) -> None:
        self.raw = document.value
        self.lines = document.lines
        self.errors = list(document.errors)

    def error(self, message: str, *where: str) -> None:
        """Adds an error at a key, or at the innermost enclosing key that is in the file."""
        inner = where
        while inner and inner not in self.lines:
            inner = inner[:-1]
        self.errors.append((self.lines.get(inner) if inner else None, message))

    def entries(self, overrides: Sequence[str], option: int | None) -> dict[str, Any]:
        """Returns the fields of a Definition, without what has errors; none if the document is not a mapping."""
        if not isinstance(self.raw, dict):
            if not self.errors:
                self.error(f"is not a sweep: it must be a mapping with the keys {', '.join(REQUIRED_KEYS)}")
            return {}
        self._check_top()
        metric = self._mapping("metric", METRIC_KEYS)
        repeats = self._integer(self.raw if option is None else {"repeats": option}, "repeats", "repeats")
        if repeats is not None and repeats > distributions.MAX_CHOICES:
            self.error(f"repeats {repeats} is above {distributions.MAX_CHOICES}", "repeats")
            repeats = None
        leaves = self._leaves(overrides, repeats, replaces=option is not None)
        valid = {key: leaf.distribution for key, leaf in leaves.items() if leaf.distribution}
        method = self.raw.get("method")
        if method == "grid":
            self._check_grid(leaves)
        launcher, command = self._command(list(valid))
        texts = {key: self._text(self.raw, key, key) for key in TEXT_KEYS}
        program = texts.pop("program")
        if program and Path(program).suffix != ".py":
            self.error(f"program {program} is not a Python file with a main(args, report), as {PROGRAM} is", "program")
        choices = {key: distribution.choices or [] for key, distribution in valid.items()}
        if error := refuse_booleans(command, program or PROGRAM, choices):
            self.error(f"command: {error}", "command")
        return {
            **{key: text for key, text in texts.items() if key != "name" or text},
            "program": program or PROGRAM,
            "method": method,
            **self._metric(metric),
            "run_cap": self._integer(self.raw, "run_cap", "run_cap"),
            "repeats": None if method == "grid" else repeats,
            "early_terminate": self._hyperband(),
            "distributions": valid,
            "command": command,
            "launcher": launcher,
            "paths": {key: leaf.path for key, leaf in leaves.items()},
            "lines": {key[0]: line for key, line in self.lines.items() if len(key) == 1}
            | {key: self.lines[leaf.where] for key, leaf in leaves.items() if leaf.where},
        }

    def _check_top(self) -> None:
        for key in self.raw:
            if key in SERVER_KEYS:
                self.error(f"{key} cannot work without W&B's server", key)
            elif key not in TOP_KEYS:
                self.error(f"unknown key {key!r}{did_you_mean(key, TOP_KEYS)}", key)
        for key in REQUIRED_KEYS:
            if key not in self.raw:
                self.error(f"{key} is missing")
        if "method" in self.raw and self.raw["method"] not in METHODS:
            near = did_you_mean(self.raw["method"], METHODS)
            self.error(f"method {self.raw['method']} is none of {', '.join(METHODS)}{near}", "method")

    def _mapping(self, key: str, known: Sequence[str]) -> dict[str, Any]:
        """Returns the mapping at a top-level key; an empty one if the key is absent or invalid."""
        if key not in self.raw:
            return {}
        block = self.raw[key]
        if not isinstance(block, dict) or not block:
            self.error(f"{key} must be a mapping with keys among {', '.join(known)}", key)
            return {}
        for inner in block:
            if inner not in known:
                self.error(f"{key}: unknown key {inner!r}{did_you_mean(inner, known)}", key, inner)
        return block

    def _text(self, block: Mapping[str, Any], key: str, name: str, *where: str) -> str | None:
        text = block.get(key)
        if key not in block or (isinstance(text, str) and text):
            return text
        self.error(f"{name} must be a text; put it in quotes" if text else f"{name} is empty", *(where or (key,)))
        return None

    def _integer(self, block: Mapping[str, Any], key: str, *where: str) -> int | None:
        number = block.get(key)
        if key not in block or (isinstance(number, int) and not isinstance(number, bool) and number >= 1):
            return number
        self.error(f"{': '.join(where)} {as_text(number)} is not a whole number of at least 1", *where)
        return None

    def _number(self, block: Mapping[str, Any], key: str, *where: str) -> Any:
        errors = distributions.number_errors(key, block[key]) if key in block else []
        for message in errors:
            self.error(f"{where[0]}: {message}", *where)
        return None if errors else block.get(key)

    def _metric(self, metric: Mapping[str, Any]) -> dict[str, Any]:
        goal = metric.get("goal", GOALS[0])
        if metric and "name" not in metric:
            self.error("metric needs a name, such as test/mse", "metric")
        if goal not in GOALS:
            near = did_you_mean(goal, GOALS)
            self.error(f"metric: goal {goal} is neither minimize nor maximize{near}", "metric", "goal")
        name = self._text(metric, "name", "metric: name", "metric", "name")
        return {"metric": name, "goal": goal, "target": self._number(metric, "target", "metric", "target")}

    def _hyperband(self) -> Hyperband | None:
        top = "early_terminate"
        block = self._mapping(top, HYPERBAND_KEYS)
        if not block:
            return None
        if block.get("type") != "hyperband":
            self.error(f"{top}: type must be hyperband, the only type that W&B defines", top, "type")
        if "min_iter" not in block and "max_iter" not in block:
            self.error(f"{top} needs min_iter, or max_iter and s", top)
        if "max_iter" in block and "s" not in block:
            self.error(f"{top}: max_iter needs s, the number of brackets", top, "max_iter")
        if not isinstance(block.get("strict", Hyperband.strict), bool):
            self.error(f"{top}: strict is neither true nor false", top, "strict")
        eta = self._number({"eta": Hyperband.eta} | block, "eta", top, "eta")
        min_iter, max_iter, s = (self._integer(block, key, top, key) for key in ("min_iter", "max_iter", "s"))
        if eta is not None and eta <= 1:
            self.error(f"{top}: eta {eta} is not above 1", top, "eta")
        elif eta and max_iter and max_iter < eta:
            self.error(f"{top}: max_iter {max_iter} is below eta {eta}, so there is no bracket", top, "max_iter")
        return Hyperband(min_iter, max_iter, s, eta, block.get("strict", Hyperband.strict))

    def _leaves(self, overrides: Sequence[str], repeats: int | None, replaces: bool) -> dict[str, _Leaf]:
        """Returns all parameters in W&B's order: sorted by key within each block.

        Args:
            overrides: The overrides.
            repeats: How many seeds there are, if they are not a parameter.
            replaces: Whether these seeds replace those of the file.
        """
        leaves: dict[str, _Leaf] = {}
        if "parameters" in self.raw:
            for path, where, spec in self._walk(self.raw["parameters"], (), ("parameters",)):
                key = ".".join(path)
                if (other := _same_option(key, leaves)) in leaves:
                    how = "in a block and with dots" if other == key else f"also as {other}"
                    self.error(f"parameter {key} is given twice, {how}", *where)
                errors = distributions.spec_errors(spec)
                for inner, message in errors:
                    self.error(f"{key}: {message}", *where, inner)
                leaves[key] = _Leaf(path, where, None if errors else read_distribution(spec))
        for text in overrides:
            self._override(text, leaves)
        if repeats is not None:
            same = leaves.pop(_same_option(SEED, leaves), None)
            if same is not None and not (replaces and same.where):
                self.error(f"repeats sets {SEED}, which is set as a parameter too; remove one of them", "repeats")
            leaves[SEED] = _Leaf((SEED,), (), read_distribution({"values": list(range(repeats))}))
        return dict(sorted(leaves.items(), key=lambda item: item[1].path))

    def _walk(self, block: Any, above: Keys, where: Keys) -> Iterator[tuple[Keys, Keys, Any]]:
        """Yields the keys, the position in the file, and the settings of each parameter in a block."""
        name = ".".join(above) or "parameters"
        if not isinstance(block, dict) or not block:
            self.error(f"{name} must be a mapping with at least one parameter", *where)
            return
        for key, spec in block.items():
            path, here = (*above, key), (*where, key)
            if not _KEY.fullmatch(key):
                self.error(f"parameter {key!r} must begin with a letter and contain only letters, digits, _ . -", *here)
            if not isinstance(spec, dict) or "parameters" not in spec:
                yield path, here, spec
                continue
            for other in [inner for inner in spec if inner != "parameters"]:
                self.error(f"{'.'.join(path)}: {other!r} is not allowed beside parameters", *here, other)
            yield from self._walk(spec["parameters"], path, (*here, "parameters"))

    def _override(self, text: str, leaves: dict[str, _Leaf]) -> None:
        key, equals, listed = text.partition("=")
        key = _same_option(key, leaves)
        document = _Document(f"[{listed}]")
        if not equals or not _KEY.fullmatch(key):
            self.error(f"override {text!r} is not of the form key=value[,value...]")
        elif document.errors or not isinstance(document.value, list) or not document.value:
            why = "".join(f": {message}" for _, message in document.errors)
            self.error(f"override {text!r} has no readable values; write key=value[,value...]{why}")
        elif key in {".".join(leaf.path[:depth]) for leaf in leaves.values() for depth in range(1, len(leaf.path))}:
            self.error(f"override {text!r} would replace a whole block")
        else:
            values = document.value
            spec = {"value": values[0]} if len(values) == 1 else {"values": values}
            path = leaves[key].path if key in leaves else (key,)
            leaves[key] = _Leaf(path, (), read_distribution(spec))

    def _check_grid(self, leaves: Mapping[str, _Leaf]) -> None:
        for key, leaf in leaves.items():
            if leaf.distribution and leaf.distribution.kind not in GRID_KINDS:
                advice = "give values, or use method random or bayes"
                self.error(f"{key}: a grid cannot contain {leaf.distribution.kind}; {advice}", *leaf.where)
            elif leaf.distribution and leaf.distribution.choices is None:
                self.error(f"{key}: more than {distributions.MAX_CHOICES} values are too many for a grid", *leaf.where)

    def _command(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Returns the words of the command up to ${program}, and the words after it.

        With errors, these are words by which the parameters can be checked: without macros that cannot be used, and
        with ${args}.
        """
        items = self.raw.get("command")
        if "command" not in self.raw:
            return [], []
        if not isinstance(items, list) or not items:
            self.error("command must be a list of words, with ${program} and ${args}", "command")
            return [], []
        words = [str(item) for item in items]
        if "${program}" not in words:
            self.error("command has no ${program}", "command")
        programs = ("${program}", *(word for word in words if word.endswith(".py")))
        start = next((words.index(program) + 1 for program in programs if program in words), 0)
        macros = [index for index in range(start, len(words)) if words[index] in ARGUMENT_MACROS]
        if not macros:
            self.error("command has no ${args} after ${program}, so that it would receive no parameters", "command")
        unusable = set()
        for index, word in enumerate(words):
            errors = _word_errors(items[index], LAUNCHER_MACROS if index < start else tuple(ARGUMENT_MACROS))
            if errors and not VARIABLE.search(word):
                unusable.add(index)
            if macros and index > macros[0]:
                errors += _order_errors(word, keys)
            for message in errors:
                self.error(f"command: {message}", "command", str(index))
        after = [words[index] for index in range(start, len(words)) if index not in unusable]
        return words[:start], after if macros else [*after, "${args}"]


def _same_option(key: str, leaves: Iterable[str]) -> str:
    """Returns the key in `leaves` that sets the same option, as model.init_args.depth does for model.depth; else it."""
    return next((other for other in leaves if short_key(other) == short_key(key)), key)


def _word_errors(item: Any, macros: Sequence[str]) -> list[str]:
    """Returns the errors of one word of the command, given the macros that are allowed at its position."""
    if not isinstance(item, str | int | float):
        return [f"{as_text(item)} is not a word"]
    word = str(item)
    errors = [
        f"${{envvar:{name}}} is not set in the environment" for name in VARIABLE.findall(word) if name not in os.environ
    ]
    known = (*LAUNCHER_MACROS, *ARGUMENT_MACROS)
    for macro in _MACRO.findall(VARIABLE.sub("", word)):
        if macro not in known:
            errors.append(f"{macro} is not known without W&B's agent{did_you_mean(macro, known)}")
        elif macro != word:
            errors.append(f"{macro} must be a separate item")
        elif macro not in macros:
            errors.append(f"{macro} is on the wrong side of ${{program}}")
    return errors


def _order_errors(word: str, keys: Sequence[str]) -> list[str]:
    """Returns the errors of a word after the parameters, which it would override: the last option takes precedence."""
    option = word.partition("=")[0]
    if option in ("--config", "-c"):
        return [
            f"{option} comes after the parameters, which the file would override in some programs; put it before"
            " ${args}"
        ]
    if option.startswith("--") and _same_option(option[2:], keys) in keys:
        return [f"{option} comes after the parameters, so that it would override parameter {option[2:]}"]
    return []
