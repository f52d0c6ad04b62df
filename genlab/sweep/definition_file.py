"""Reads a sweep's YAML, and names all that is wrong with it, each fault with its line.

Source: W&B, "Sweep configuration options", https://docs.wandb.ai/models/sweeps/sweep-config-keys. Where that page is
silent, the schema in https://github.com/wandb/sweeps holds.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from genlab.runs.errors import UsageError
from genlab.sweep import distributions
from genlab.sweep.definition import MACROS, PROGRAM, STARTERS, VARIABLE, Definition, Hyperband, Keys, shown
from genlab.sweep.distributions import GRID_KINDS, Distribution, did_you_mean, read_distribution

METHODS = ("grid", "random", "bayes")
GOALS = ("minimize", "maximize")
REQUIRED_KEYS = ("method", "metric", "parameters", "command")
TEXT_KEYS = ("name", "program", "project", "entity", "description")
IGNORED_KEYS = ("apiVersion", "kind", "controller")
"""W&B knows these, and here they change nothing."""
TOP_KEYS = (*REQUIRED_KEYS, *TEXT_KEYS, *IGNORED_KEYS, "early_terminate", "run_cap")
SERVER_KEYS = ("job", "image_uri", "scheduler", "metrics")
"""W&B knows these, and they cannot work without its server."""
METRIC_KEYS = ("name", "goal", "target")
HYPERBAND_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MACRO = re.compile(r"\$\{.*?\}")


def load_definition(path: Path, overrides: Sequence[str] = ()) -> Definition:
    """Reads a sweep's YAML; each override `key=value[,value...]` sets or adds a parameter's values.

    Raises:
        UsageError: the file cannot be read, or W&B or train.py could make nothing of it; names all faults, with lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the sweep {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"cannot read the sweep {path} (it is no UTF-8 text)") from None
    reader = _Reader(_Document(text))
    entries = reader.entries(overrides)
    if reader.faults:
        raise UsageError(faults_text(path, reader.faults))
    return Definition(path=path, **{"name": path.stem, **entries})


Fault = tuple[int | None, str]
"""A line of the file, if there is one, and what is wrong."""


def faults_text(path: Path, faults: Sequence[Fault]) -> str:
    """All faults of a file, one a line, in the file's order."""
    ordered = sorted(faults, key=lambda fault: math.inf if fault[0] is None else fault[0])
    lines = [message if line is None else f"line {line}: {message}" for line, message in ordered]
    return "\n  ".join([f"{path} has {len(lines)} fault{'s' if len(lines) > 1 else ''}:", *lines])


class _Document:
    """YAML as plain JSON values, with the line of every key and list item, and what no sweep may hold.

    Args:
        text: one YAML document.
    """

    def __init__(self, text: str) -> None:
        self.value: Any = None
        self.lines: dict[Keys, int] = {}
        self.faults: list[Fault] = []
        self._checked: set[int] = set()
        try:
            self._loader = yaml.SafeLoader(text)
            node = self._loader.get_single_node()
            self.value = None if node is None else self._build(node, ())
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or " ".join(str(error).split())
            self.faults.append((mark.line + 1 if mark else None, f"no valid YAML: {problem}"))
        except RecursionError:
            self.faults.append((None, "no valid YAML: it is nested too deeply, or within itself"))

    def _build(self, node: yaml.Node, where: Keys) -> Any:
        self.lines.setdefault(where, node.start_mark.line + 1)
        if not isinstance(node, yaml.ScalarNode) and not node.tag.endswith((":map", ":seq")):
            self.faults.append((node.start_mark.line + 1, f"no valid YAML: the tag {node.tag} has no place here"))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*where, str(index))) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, where: Keys) -> dict[str, Any]:
        if id(node) not in self._checked:  # an alias shows the same node again
            self._checked.add(id(node))
            self._check_keys(node)
        self._loader.flatten_mapping(node)  # `<<`, so that a key may now stand twice, the one that holds last
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
                self.faults.append((line, f"key {key.value} is read by YAML as a {kind}; put it in quotes"))
            elif key.value in first:
                self.faults.append((line, f"key {key.value!r} stands twice, first in line {first[key.value]}"))
            else:
                first[key.value] = line

    def _scalar(self, node: yaml.Node) -> Any:
        line = node.start_mark.line + 1
        try:
            value = self._loader.construct_object(node)
            plain = isinstance(value, str | int | float | None)
        except ValueError:  # such as the 31st of February
            value, plain = None, False
        if not plain:
            kind = node.tag.rsplit(":", 1)[-1]
            self.faults.append((line, f"{node.value} is read by YAML as a {kind}; put it in quotes"))
        elif isinstance(value, float) and not math.isfinite(value):
            self.faults.append((line, f"{node.value} is not finite"))
        return value


@dataclass(frozen=True)
class _Leaf:
    """A parameter: its keys, where it stands in the file (nowhere for an override), its distribution if it has no fault."""

    path: Keys
    where: Keys
    distribution: Distribution | None


class _Reader:
    """Turns a document into a Definition's fields; `faults` are those of the file and of the overrides."""

    def __init__(self, document: _Document) -> None:
        self.raw = document.value
        self.lines = document.lines
        self.faults = list(document.faults)

    def fault(self, message: str, *where: str) -> None:
        """Notes what is wrong at a key; without one, or where the key is missing, at what holds it."""
        inner = where
        while inner and inner not in self.lines:
            inner = inner[:-1]
        self.faults.append((self.lines.get(inner) if inner else None, message))

    def entries(self, overrides: Sequence[str]) -> dict[str, Any]:
        """A Definition's fields; they mean nothing when there are faults."""
        if not isinstance(self.raw, dict):
            if not self.faults:
                self.fault(f"holds no sweep: it must map {', '.join(REQUIRED_KEYS)} to what they are")
            return {}
        self._check_top()
        metric = self._mapping("metric", METRIC_KEYS)
        leaves = self._leaves(overrides)
        distributions, method = (
            {key: leaf.distribution for key, leaf in leaves.items() if leaf.distribution},
            self.raw.get("method"),
        )
        if method == "grid":
            self._check_grid(leaves)
        launcher, command = self._command(list(distributions))
        texts = {key: self._text(self.raw, key, key) for key in TEXT_KEYS}
        program = texts.pop("program")
        if program and Path(program).suffix != ".py":
            self.fault(f"program {program} is no Python file with a main(args, report), as {PROGRAM} is", "program")
        return {
            **{key: text for key, text in texts.items() if key != "name" or text},
            "program": program or PROGRAM,
            "method": method,
            **self._metric(metric),
            "run_cap": self._integer(self.raw, "run_cap", "run_cap"),
            "early_terminate": self._hyperband(),
            "distributions": distributions,
            "command": command,
            "launcher": launcher,
            "paths": {key: leaf.path for key, leaf in leaves.items()},
            "lines": {key[0]: line for key, line in self.lines.items() if len(key) == 1}
            | {key: self.lines[leaf.where] for key, leaf in leaves.items() if leaf.where},
        }

    def _check_top(self) -> None:
        for key in self.raw:
            if key in SERVER_KEYS:
                self.fault(f"{key} cannot work without W&B's server", key)
            elif key not in TOP_KEYS:
                self.fault(f"unknown key {key!r}{did_you_mean(key, TOP_KEYS)}", key)
        for key in REQUIRED_KEYS:
            if key not in self.raw:
                self.fault(f"{key} is missing")
        if "method" in self.raw and self.raw["method"] not in METHODS:
            near = did_you_mean(self.raw["method"], METHODS)
            self.fault(f"method {self.raw['method']} is none of {', '.join(METHODS)}{near}", "method")

    def _mapping(self, key: str, known: Sequence[str]) -> dict[str, Any]:
        """The mapping at a top-level key; empty if there is none."""
        if key not in self.raw:
            return {}
        block = self.raw[key]
        if not isinstance(block, dict) or not block:
            self.fault(f"{key} must map {', '.join(known)}", key)
            return {}
        for inner in block:
            if inner not in known:
                self.fault(f"{key}: unknown key {inner!r}{did_you_mean(inner, known)}", key, inner)
        return block

    def _text(self, block: Mapping[str, Any], key: str, name: str, *where: str) -> str | None:
        text = block.get(key)
        if key not in block or (isinstance(text, str) and text):
            return text
        self.fault(f"{name} must be a text; put it in quotes" if text else f"{name} is empty", *(where or (key,)))
        return None

    def _integer(self, block: Mapping[str, Any], key: str, *where: str) -> int | None:
        number = block.get(key)
        if key not in block or (isinstance(number, int) and not isinstance(number, bool) and number >= 1):
            return number
        self.fault(f"{': '.join(where)} {shown(number)} is no whole number of at least 1", *where)
        return None

    def _number(self, block: Mapping[str, Any], key: str, *where: str) -> Any:
        wrong = distributions.number_faults(key, block[key]) if key in block else []
        for message in wrong:
            self.fault(f"{where[0]}: {message}", *where)
        return None if wrong else block.get(key)

    def _metric(self, metric: Mapping[str, Any]) -> dict[str, Any]:
        goal = metric.get("goal", GOALS[0])
        if metric and "name" not in metric:
            self.fault("metric needs a name, such as test/mse", "metric")
        if goal not in GOALS:
            near = did_you_mean(goal, GOALS)
            self.fault(f"metric: goal {goal} is neither minimize nor maximize{near}", "metric", "goal")
        name = self._text(metric, "name", "metric: name", "metric", "name")
        return {"metric": name, "goal": goal, "target": self._number(metric, "target", "metric", "target")}

    def _hyperband(self) -> Hyperband | None:
        top = "early_terminate"
        block = self._mapping(top, HYPERBAND_KEYS)
        if not block:
            return None
        if block.get("type") != "hyperband":
            self.fault(f"{top}: type must be hyperband, the only one that there is", top, "type")
        if "min_iter" not in block and "max_iter" not in block:
            self.fault(f"{top} needs min_iter, or max_iter and s", top)
        if "max_iter" in block and "s" not in block:
            self.fault(f"{top}: max_iter needs s, the number of brackets", top, "max_iter")
        if not isinstance(block.get("strict", False), bool):
            self.fault(f"{top}: strict is neither true nor false", top, "strict")
        eta = self._number({"eta": Hyperband.eta} | block, "eta", top, "eta")
        min_iter, max_iter, s = (self._integer(block, key, top, key) for key in ("min_iter", "max_iter", "s"))
        if eta is not None and eta <= 1:
            self.fault(f"{top}: eta {eta} is not above 1", top, "eta")
        elif eta and max_iter and max_iter < eta:
            self.fault(f"{top}: max_iter {max_iter} is below eta {eta}, so there is no bracket", top, "max_iter")
        return Hyperband(min_iter, max_iter, s, eta, block.get("strict", False))

    def _leaves(self, overrides: Sequence[str]) -> dict[str, _Leaf]:
        """Every parameter in W&B's order: sorted by key, block by block."""
        leaves: dict[str, _Leaf] = {}
        if "parameters" in self.raw:
            for path, where, spec in self._walk(self.raw["parameters"], (), ("parameters",)):
                key = ".".join(path)
                if key in leaves:
                    self.fault(f"parameter {key} is given twice, in a block and with dots", *where)
                wrong = distributions.faults(spec)
                for inner, message in wrong:
                    self.fault(f"{key}: {message}", *where, inner)
                leaves[key] = _Leaf(path, where, None if wrong else read_distribution(spec))
        for text in overrides:
            self._override(text, leaves)
        return dict(sorted(leaves.items(), key=lambda item: item[1].path))

    def _walk(self, block: Any, above: Keys, where: Keys) -> Iterator[tuple[Keys, Keys, Any]]:
        """The path, the place and the settings of each parameter in a block."""
        name = ".".join(above) or "parameters"
        if not isinstance(block, dict) or not block:
            self.fault(f"{name} must map one or more keys to their settings", *where)
            return
        for key, spec in block.items():
            path, here = (*above, key), (*where, key)
            if not _KEY.fullmatch(key):
                self.fault(f"parameter {key!r} must begin with a letter and hold letters, digits, _ . - alone", *here)
            if not isinstance(spec, dict) or "parameters" not in spec:
                yield path, here, spec
                continue
            for other in [inner for inner in spec if inner != "parameters"]:
                self.fault(f"{'.'.join(path)}: {other!r} cannot stand beside parameters", *here, other)
            yield from self._walk(spec["parameters"], path, (*here, "parameters"))

    def _override(self, text: str, leaves: dict[str, _Leaf]) -> None:
        key, equals, listed = text.partition("=")
        document = _Document(f"[{listed}]")
        if not equals or not _KEY.fullmatch(key):
            self.fault(f"override {text!r} is not of the form key=value[,value...]")
        elif document.faults or not isinstance(document.value, list) or not document.value:
            why = "".join(f": {message}" for _, message in document.faults)
            self.fault(f"override {text!r} gives no values that can be read; write key=value[,value...]{why}")
        elif key in {".".join(leaf.path[:depth]) for leaf in leaves.values() for depth in range(1, len(leaf.path))}:
            self.fault(f"override {text!r} would replace a whole block")
        else:
            values = document.value
            spec = {"value": values[0]} if len(values) == 1 else {"values": values}
            path = leaves[key].path if key in leaves else (key,)
            leaves[key] = _Leaf(path, (), read_distribution(spec))

    def _check_grid(self, leaves: Mapping[str, _Leaf]) -> None:
        for key, leaf in leaves.items():
            if leaf.distribution and leaf.distribution.kind not in GRID_KINDS:
                advice = "give values, or use method random or bayes"
                self.fault(f"{key}: a grid cannot go through {leaf.distribution.kind}; {advice}", *leaf.where)
            elif leaf.distribution and leaf.distribution.choices is None:
                self.fault(f"{key}: more than {distributions.MOST_CHOICES} values are too many for a grid", *leaf.where)

    def _command(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """The command's words up to ${program}, and those after it."""
        items = self.raw.get("command")
        if "command" not in self.raw:
            return [], []
        if not isinstance(items, list) or not items:
            self.fault("command must be a list of words, with ${program} and ${args}", "command")
            return [], []
        words = [str(item) for item in items]
        if "${program}" not in words:
            self.fault("command has no ${program}", "command")
            return [], words
        start = words.index("${program}") + 1
        macros = [index for index in range(start, len(words)) if words[index] in MACROS]
        if not macros:
            self.fault("command has no ${args} after ${program}, so that no value would reach it", "command")
        for index, word in enumerate(words):
            wrong = _word_faults(items[index], STARTERS if index < start else tuple(MACROS))
            if macros and index > macros[0]:
                wrong += _late_faults(word, keys)
            for message in wrong:
                self.fault(f"command: {message}", "command", str(index))
        return words[:start], words[start:]


def _word_faults(item: Any, macros: Sequence[str]) -> list[str]:
    """What is wrong with one word of the command, given the macros that may stand in its place."""
    if not isinstance(item, str | int | float):
        return [f"{shown(item)} is no word"]
    word = str(item)
    wrong = [
        f"${{envvar:{name}}} is not set in the environment" for name in VARIABLE.findall(word) if name not in os.environ
    ]
    known = (*STARTERS, *MACROS)
    for macro in _MACRO.findall(VARIABLE.sub("", word)):
        if macro not in known:
            wrong.append(f"{macro} is not known without W&B's agent{did_you_mean(macro, known)}")
        elif macro != word:
            wrong.append(f"{macro} must be an item of its own")
        elif macro not in macros:
            wrong.append(f"{macro} stands on the wrong side of ${{program}}")
    return wrong


def _late_faults(word: str, keys: Sequence[str]) -> list[str]:
    """What is wrong with a word after the point's own arguments: train.py lets the later one win."""
    option = word.partition("=")[0]
    if option in ("--config", "-c"):
        return [f"{option} stands after the parameters, so that the file would win over the sweep"]
    if option.startswith("--") and option[2:] in keys:
        return [f"{option} stands after the parameters, so that it would win over parameter {option[2:]}"]
    return []
