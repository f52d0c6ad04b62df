"""Sweep definitions: W&B's order and arguments against explicit lists, each error against its line and message."""

import json
import re
from pathlib import Path

import pytest
import yaml

from genlab.runs.errors import UsageError
from genlab.sweep.definition import Definition, Hyperband, differences
from genlab.sweep.parser import load_definition

HEAD = "method: grid\nmetric: {name: test/mse}\n"
TAIL = 'command: ["${program}", fit, "${args}"]\n'

NESTED = """
description: nested blocks beside dotted keys
project: genlab
method: grid
metric: {name: test/accuracy, goal: maximize, target: 0.9}
run_cap: 7
early_terminate: {type: hyperband, min_iter: 2}
parameters:
  trainer.precision:
    value: null
  model:
    parameters:
      width: {values: [8, 4]}
      optimizer:
        parameters:
          lr: {values: [1.0e-5, 0.1]}
  data.size: {min: 1, max: 2}
command:
  - ${env}
  - ${interpreter}
  - ${program}
  - fit
  - --config=configs/a.yaml
  - ${args}
"""


def load(tmp_path: Path, text: str, *overrides: str) -> Definition:
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return load_definition(path, overrides)


def errors(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    """Returns the error messages, without the line that counts them."""
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text, *overrides)
    first, *lines = str(caught.value).split("\n")
    assert first == f"{tmp_path / 'sweep.yaml'} has {len(lines)} error{'s' if len(lines) > 1 else ''}:"
    assert all(line.startswith("  ") for line in lines)
    return [line[2:] for line in lines]


def parameters(block: str, method: str = "grid") -> str:
    return HEAD.replace("grid", method) + f"parameters: {block}\n" + TAIL


def test_everything_is_read(tmp_path: Path):
    sweep = load(tmp_path, NESTED)
    assert (sweep.name, sweep.program, sweep.project, sweep.entity) == ("sweep", "train.py", "genlab", None)
    assert sweep.description == "nested blocks beside dotted keys"
    assert (sweep.method, sweep.metric, sweep.goal, sweep.target) == ("grid", "test/accuracy", "maximize", 0.9)
    assert sweep.run_cap == 7 and sweep.early_terminate == Hyperband(2, None, None)
    assert list(sweep.distributions) == ["data.size", "model.optimizer.lr", "model.width", "trainer.precision"]
    assert sweep.command == ["fit", "--config=configs/a.yaml", "${args}"]
    assert [sweep.line(key) for key in ("method", "metric", "model.optimizer.lr", "nothing")] == [4, 5, 16, None]


def test_the_grid_has_the_order_of_wandb(tmp_path: Path):
    """Sorted by name, the last parameter varies fastest, no duplicates, constants are in every point."""
    sweep = load(tmp_path, parameters("{z: {values: [3, 3.0, 1]}, k: {value: x}, b: {values: [true, 1]}}"))
    points = list(sweep.points())
    assert points == [
        {"b": True, "k": "x", "z": 3},
        {"b": True, "k": "x", "z": 1},
        {"b": 1, "k": "x", "z": 3},
        {"b": 1, "k": "x", "z": 1},
    ]
    assert len(sweep) == 4 and [list(point) for point in points] == [["b", "k", "z"]] * 4
    assert [type(point["b"]) for point in points] == [bool, bool, int, int] and type(points[0]["z"]) is int
    assert sweep.values == {"b": [True, 1], "k": ["x"], "z": [3, 1]}


def test_a_grid_can_contain_ranges(tmp_path: Path):
    block = "{n: {min: 1, max: 3}, q: {distribution: q_uniform, min: 0, max: 1, q: 0.5}}"
    sweep = load(tmp_path, parameters(block))
    assert [(point["n"], point["q"]) for point in sweep.points()] == [
        (1, 0),
        (1, 0.5),
        (2, 0),
        (2, 0.5),
        (3, 0),
        (3, 0.5),
    ]


def test_blocks_are_sorted_before_their_keys_are_joined(tmp_path: Path):
    """W&B sorts "a" with its whole block before "a-b", although "a-b" < "a.x"."""
    sweep = load(tmp_path, parameters("{a-b: {value: 1}, a: {parameters: {x: {values: [1, 2]}}}}"))
    assert list(sweep.distributions) == ["a.x", "a-b"]


def test_points_are_drawn_by_quantiles(tmp_path: Path):
    block = "{lr: {min: 0.0, max: 4.0}, k: {value: 7}, n: {values: [a, b]}}"
    sweep = load(tmp_path, parameters(block, "random"))
    assert sweep.draw({"lr": 0.25, "n": 0.5}) == {"k": 7, "lr": 1.0, "n": "b"}
    with pytest.raises(KeyError):
        sweep.draw({"lr": 0.25})
    with pytest.raises(TypeError, match="only a grid"):
        len(sweep)
    with pytest.raises(TypeError, match="only a grid"):
        next(sweep.points())


def test_arguments_of_a_nested_point(tmp_path: Path):
    sweep = load(tmp_path, NESTED)
    arguments = sweep.arguments(next(sweep.points()))
    assert arguments[:3] == ["fit", "--config=configs/a.yaml", "--data.size=1"]
    key, _, text = arguments[3].partition("=")
    assert key == "--model" and yaml.safe_load(text) == {"optimizer": {"lr": 1e-5}, "width": 8}
    assert arguments[4:] == ["--trainer.precision=null"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-05"),
        (2.0, "2.0"),
        (True, "True"),
        (None, "null"),
        ("it's", "it's"),
        ("null", "null"),
        ([32, 64], "[32, 64]"),
        ({"latent_dim": 2, "kind": "a b", "on": False}, "{'latent_dim': 2, 'kind': 'a b', 'on': False}"),
    ],
)
def test_a_value_is_formatted_as_by_wandb(value, text: str, tmp_path: Path):
    sweep = load(tmp_path, parameters(json.dumps({"x": {"value": 0}})))
    assert sweep.arguments({"x": value, "b": 1, "y": 2, "a": 3}) == ["fit", "--a=3", "--b=1", f"--x={text}", "--y=2"]


@pytest.mark.parametrize(
    ("macro", "arguments"),
    [
        ("${args}", ["--a=1", "--b=True", "--c=False", "--d=null"]),
        ("${args_no_hyphens}", ["a=1", "b=True", "c=False", "d=null"]),
        ("${args_no_boolean_flags}", ["--a=1", "--b", "--d=null"]),
        ("${args_no_equals}", ["--a", "1", "--b", "True", "--c", "False", "--d", "null"]),
        ("${args_json}", ['{"a": 1, "b": true, "c": false, "d": null}']),
        ("${args_append_hydra}", ["+a=1", "+b=True", "+c=False", "+d=null"]),
        ("${args_override_hydra}", ["++a=1", "++b=True", "++c=False", "++d=null"]),
    ],
)
def test_macros(macro: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SWEEP_ROOT", "/data")
    block = "{d: {value: null}, c: {value: false}, b: {value: true}, a: {values: [1]}}"
    text = f"program: own.py\n{parameters(block)}".replace("${args}", macro)
    text = text.replace("fit,", 'fit, 5, "--data.root=${envvar:SWEEP_ROOT}/x",')
    sweep = load(tmp_path, text)
    assert sweep.arguments(next(sweep.points())) == ["fit", "5", "--data.root=/data/x", *arguments]


def test_overrides_set_and_add_parameters(tmp_path: Path):
    overrides = ("model.width=2", "seed_everything=0,1", "data.size=[3, 4]", "data.size=null,a")
    sweep = load(tmp_path, NESTED, *overrides)
    assert {key: distribution.settings for key, distribution in sweep.distributions.items()} == {
        "data.size": {"values": [None, "a"]},
        "model.optimizer.lr": {"values": [1e-5, 0.1]},
        "model.width": {"value": 2},
        "seed_everything": {"values": [0, 1]},
        "trainer.precision": {"value": None},
    }
    assert sweep.distributions["model.width"].constant and len(sweep) == 8
    assert sweep.line("model.width") is None and sweep.line("seed_everything") is None
    assert "--model={optimizer: {lr: 1.0e-05}, width: 2}" in sweep.arguments(next(sweep.points()))


def test_an_override_sets_an_option_however_its_key_is_written(tmp_path: Path):
    sweep = load(tmp_path, parameters("{m.init_args.x: {values: [1, 2]}, m.y: {value: 1}}"), "m.x=3", "m.init_args.y=4")
    assert list(sweep.points()) == [{"m.init_args.x": 3, "m.y": 4}] and sweep.swept == []


def test_the_repeats_of_a_grid_are_values_of_the_seed(tmp_path: Path):
    """The points have the order of W&B, so that a sweep can go on by either way of writing it."""
    text = parameters("{z: {values: [3, 4]}, a: {values: [1, 2]}}")
    by_values, by_repeats = load(tmp_path, text, "seed_everything=0,1"), load(tmp_path, f"repeats: 2\n{text}")
    assert list(by_values.points()) == list(by_repeats.points()) and by_values.record() == by_repeats.record()
    path = tmp_path / "sweep.yaml"
    path.write_text(text.replace("z:", "seed_everything: {value: 7}, z:"), encoding="utf-8")
    assert load_definition(path, (), 2).record() == by_values.record()
    path.write_text(f"repeats: 2\n{text.replace('grid', 'random')}", encoding="utf-8")
    path.write_text((drawn := load_definition(path)).to_yaml(), encoding="utf-8")
    assert load_definition(path) == drawn and drawn.repeats == 2
    path.write_text(text.replace("z:", "seed_everything: {value: 7}, z:"), encoding="utf-8")
    with pytest.raises(UsageError, match="repeats sets seed_everything, which is set as a parameter too"):
        load_definition(path, ("seed_everything=1",), 2)
    assert by_values.to_yaml() == by_repeats.to_yaml() and by_repeats.in_names == ["a", "seed_everything", "z"]


def test_names_hold_what_differs_between_the_runs(tmp_path: Path):
    block = "o: {values: [{class_path: A, init_args: {lr: 1}}, {class_path: A, init_args: {lr: 2}}]}"
    sweep = load(tmp_path, parameters(f"{{model: {{values: [A, B]}}, model.x: {{value: 1}}, {block}}}"), "model.y=3")
    assert sweep.in_names == ["model", "o", "o.lr", "model.y"]


def test_an_override_replaces_a_distribution_that_a_grid_cannot_contain(tmp_path: Path):
    text = parameters("{lr: {min: 0.1, max: 0.2}}")
    assert len(errors(tmp_path, text)) == 1 and len(load(tmp_path, text, "lr=1,2")) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "is not of the form"),
        ("=1", "is not of the form"),
        ("a b=1", "is not of the form"),
        ("a=", "has no readable values"),
        ("a=[1", "has no readable values"),
        ("a=1]: [2", "has no readable values"),
        ("a=.nan", ".nan is not finite"),
        ("a=2020-01-01", "read by YAML as a timestamp"),
        ("model=3", "would replace a whole block"),
        ("model.optimizer=3", "would replace a whole block"),
    ],
)
def test_an_invalid_override_is_reported(override: str, message: str, tmp_path: Path):
    found = errors(tmp_path, NESTED, override, "fine=1")
    assert len(found) == 1 and found[0].startswith(f"override {override!r}") and message in found[0]


NO_SWEEPS = [
    ("a: [1, }", "line 1: invalid YAML"),
    ("a: 1\n  b: 2", "line 2: invalid YAML: mapping values are not allowed"),
    ("a: !!python/object:os.system 1", "line 1: invalid YAML: could not determine a constructor"),
    ("a: !!python/dict {b: 1}", "line 1: invalid YAML: the tag"),
    ("a: 1\n---\nb: 2", "line 2: invalid YAML"),
    ("a: \x07", "invalid YAML"),
    ("a: &a [*a]", "line 1: invalid YAML: &a contains itself"),
    ("", "is not a sweep"),
    ("- 1", "is not a sweep"),
    ("sweep", "is not a sweep"),
]


@pytest.mark.parametrize(("text", "message"), NO_SWEEPS)
def test_a_file_that_is_not_a_sweep_is_reported(text: str, message: str, tmp_path: Path):
    assert any(message in line for line in errors(tmp_path, text))


def test_an_unreadable_file_is_reported(tmp_path: Path):
    with pytest.raises(UsageError, match=r"^cannot read the sweep .*none.yaml \(No such file"):
        load_definition(tmp_path / "none.yaml")


VALID = """method: grid
metric:
  name: test/mse
  goal: minimize
parameters:
  a:
    values: [1, 2]
command:
  - ${program}
  - fit
  - ${args}
"""
ERRORS = [  # the replaced text of VALID, the new text, the line of the error or None, a part of its message
    ("parameters:", "paramters:", 5, "unknown key 'paramters'; did you mean parameters?"),
    ("metric:", "zzz: 1\nmetric:", 2, "unknown key 'zzz'"),
    ("metric:", "job: x\nmetric:", 2, "job cannot work without W&B's server"),
    ("metric:", "scheduler: {engine: wandb}\nmetric:", 2, "scheduler cannot work without W&B's server"),
    ("method: grid\n", "", None, "method is missing"),
    ("metric:\n  name: test/mse\n  goal: minimize\n", "", None, "metric is missing"),
    ("parameters:\n  a:\n    values: [1, 2]\n", "", None, "parameters is missing"),
    ("command:\n  - ${program}\n  - fit\n  - ${args}\n", "", None, "command is missing"),
    ("grid", "gird", 1, "method gird is none of grid, random, bayes; did you mean grid?"),
    ("grid", "custom", 1, "method custom is none of"),
    ("method: grid", "method: grid\nmethod: random", 2, "key 'method' occurs twice, first in line 1"),
    ("values: [1, 2]", "values: [1]\n    values: [2]", 8, "key 'values' occurs twice, first in line 7"),
    ("method: grid", "method: grid\non: 1", 2, "key on is read by YAML as a bool; put it in quotes"),
    ("method: grid", "method: grid\nname: yes", 2, "name must be a text; put it in quotes"),
    ("method: grid", "method: grid\nproject: 3", 2, "project must be a text"),
    ("method: grid", "method: grid\nname: ''", 2, "name is empty"),
    ("method: grid", "method: grid\nprogram: other.sh", 2, "is not a Python file"),
    ("method: grid", "method: grid\nrun_cap: 0", 2, "run_cap 0 is not a whole number of at least 1"),
    ("method: grid", "method: grid\nrun_cap: true", 2, "run_cap true is not a whole number"),
    ("method: grid", "method: grid\nrun_cap: 2.5", 2, "run_cap 2.5 is not a whole number"),
    ("method: grid", "method: grid\nrepeats: 0", 2, "repeats 0 is not a whole number of at least 1"),
    ("method: grid", "method: grid\nrepeats: 1000000000", 2, "repeats 1000000000 is above 100000"),
    (
        "parameters:\n  a:",
        "repeats: 2\nparameters:\n  seed_everything:",
        5,
        "repeats sets seed_everything, which is set as",
    ),
    (
        "metric:\n  name: test/mse\n  goal: minimize",
        "metric: test/mse",
        2,
        "metric must be a mapping with keys among name, goal, target",
    ),
    ("\n  name: test/mse\n  goal: minimize", " {}", 2, "metric must be a mapping with keys among name, goal, target"),
    ("  name: test/mse\n", "", 2, "metric needs a name"),
    ("test/mse", "3", 3, "metric: name must be a text"),
    ("minimize", "minimise", 4, "goal minimise is neither minimize nor maximize; did you mean minimize?"),
    ("goal: minimize", "gaol: minimize", 4, "metric: unknown key 'gaol'; did you mean goal?"),
    ("goal: minimize", "target: 1e-3", 4, "metric: target '1e-3' is not a number in YAML; write 1.0e-3"),
    ("\n  a:\n    values: [1, 2]", " {}", 5, "parameters must be a mapping"),
    ("\n  a:\n    values: [1, 2]", " [a]", 5, "parameters must be a mapping"),
    ("\n    values: [1, 2]", " 0.1", 6, "a: must be a mapping"),
    ("\n    values: [1, 2]", "", 6, "a: must be a mapping"),
    ("  a:", "  a b:", 6, "parameter 'a b' must begin with a letter"),
    ("values: [1, 2]", "valeus: [1, 2]", 7, "a: unknown key 'valeus'; did you mean values?"),
    ("values: [1, 2]", "values: []", 7, "a: values is empty"),
    ("values: [1, 2]", "values: [1]\n    value: 2", 7, "a: both value and values"),
    ("values: [1, 2]", "values: [1]\n    probabilities: [0.5, 0.5]", 8, "a: 2 probabilities are given for 1 values"),
    ("values: [1, 2]", "values: [.inf, 2]", 7, ".inf is not finite"),
    ("values: [1, 2]", "values: [2020-02-31]", 7, "2020-02-31 is read by YAML as a timestamp"),
    ("values: [1, 2]", "values: [{1: 2}]", 7, "key 1 is read by YAML as a int"),
    ("values: [1, 2]", "max: 2\n    min: 3", 8, "a: min 3 is above max 2"),
    ("values: [1, 2]", "min: 3", 7, "a: min is given without max"),
    ("values: [1, 2]", "min: 0.1\n    max: 0.2", 6, "a: a grid cannot contain uniform; give values"),
    ("values: [1, 2]", "min: 0\n    max: 1000000", 6, "a: more than 100000 values are too many for a grid"),
    (
        "values: [1, 2]",
        "values: [1]\n    probabilities: [1]",
        6,
        "a grid cannot contain categorical_w_probabilities",
    ),
    (
        "values: [1, 2]",
        "distribution: normla\n    mu: 1",
        7,
        "a: unknown distribution 'normla'; did you mean normal?",
    ),
    ("values: [1, 2]", "parameters: {}", 7, "a must be a mapping with at least one parameter"),
    ("values: [1, 2]", "parameters: {b: {values: []}}", 7, "a.b: values is empty"),
    ("values: [1, 2]", "parameters: {b: {value: 1}}\n    min: 2", 8, "a: 'min' is not allowed beside parameters"),
    ("  a:", "  a.b: {value: 1}\n  a: {parameters: {b: {value: 1}}}\n  c:", 7, "parameter a.b is given twice"),
    ("  a:", "  a.b: {value: 1}\n  a.init_args.b: {value: 1}\n  c:", 7, "given twice, also as a.b"),
    ("\n  - ${program}\n  - fit\n  - ${args}", " python train.py", 8, "command must be a list"),
    ("  - ${program}\n", "", 8, "command has no ${program}"),
    ("  - ${args}\n", "", 8, "command has no ${args} after ${program}"),
    (
        "values: [1, 2]\ncommand:\n  - ${program}\n  - fit\n  - ${args}",
        'values: [1, true]\ncommand: ["${program}", "${args_no_boolean_flags}"]',
        8,
        "command: ${args_no_boolean_flags} passes true without a value and leaves out false (a); use ${args}",
    ),
    ("- ${args}", "- --x=${args}\n  - ${args}", 11, "command: ${args} must be a separate item"),
    (
        "- ${args}",
        "- ${args}\n  - ${argz}",
        12,
        "command: ${argz} is not known without W&B's agent; did you mean ${args}?",
    ),
    ("- ${args}", "- ${args}\n  - ${args_json_file}", 12, "${args_json_file} is not known without W&B's agent"),
    ("- ${args}", "- ${args}\n  - ${envvar:NO_SUCH_VARIABLE}", 12, "NO_SUCH_VARIABLE} is not set"),
    ("- ${args}", "- ${args}\n  - ${interpreter}", 12, "${interpreter} is on the wrong side of ${program}"),
    ("- ${program}", "- ${args}\n  - ${program}", 9, "${args} is on the wrong side of ${program}"),
    ("- ${args}", "- ${args}\n  - --config\n  - c.yaml", 12, "--config comes after the parameters"),
    ("- ${args}", "- ${args}\n  - --config=c.yaml", 12, "--config comes after the parameters"),
    ("- ${args}", "- ${args}\n  - --init_args.a=3", 12, "so that it would override parameter init_args.a"),
    ("- ${args}", "- ${args}\n  - --a=3", 12, "--a comes after the parameters, so that it would override parameter a"),
    ("- fit", "- [fit]", 10, 'command: ["fit"] is not a word'),
    ("method: grid", "method: grid\nearly_terminate: 3", 2, "early_terminate must be a mapping with keys among type"),
    ("method: grid", "method: grid\nearly_terminate: {type: median, min_iter: 1}", 2, "type must be hyperband"),
    ("method: grid", "method: grid\nearly_terminate: {min_iter: 1}", 2, "type must be hyperband"),
    ("method: grid", "method: grid\nearly_terminate: {type: hyperband}", 2, "needs min_iter, or max_iter and s"),
    ("method: grid", "method: grid\nearly_terminate:\n  type: hyperband\n  max_iter: 9", 4, "max_iter needs s"),
    (
        "method: grid",
        "method: grid\nearly_terminate:\n  type: hyperband\n  min_iter: 0",
        4,
        "min_iter 0 is not a whole",
    ),
    (
        "method: grid",
        "method: grid\nearly_terminate: {type: hyperband, min_iter: 1, eta: 0}",
        2,
        "eta 0 is not above 1",
    ),
    ("method: grid", "method: grid\nearly_terminate: {type: hyperband, min_iter: 1, eta: 3e1}", 2, "write 3.0e+1"),
    ("method: grid", "method: grid\nearly_terminate: {type: hyperband, max_iter: 2, s: 1}", 2, "there is no bracket"),
    (
        "method: grid",
        "method: grid\nearly_terminate: {type: hyperband, min_iter: 1, strict: 1}",
        2,
        "strict is neither",
    ),
    ("method: grid", "method: grid\nearly_terminate: {type: hyperband, min_iter: 1, ata: 2}", 2, "unknown key 'ata'"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), ERRORS, ids=[message[:50] for *_, message in ERRORS])
def test_an_error_is_reported_with_its_line(old: str, new: str, line: int | None, message: str, tmp_path: Path):
    assert VALID.count(old) == 1 and load(tmp_path, VALID)
    place = "" if line is None else f"line {line}: "
    found = [line_error for line_error in errors(tmp_path, VALID.replace(old, new)) if message in line_error]
    assert len(found) == 1 and found[0].startswith(place) and found[0].startswith("line") == (line is not None)


def test_all_errors_are_reported_in_the_order_of_their_lines(tmp_path: Path):
    text = """method: grid
metric: {goal: minimize}
parameterz: {}
parameters:
  model:
    parameters:
      depth: {values: []}
      optimizer: {parameters: {lr: {min: 0.1, max: 0.01}}}
command: ["${program}"]
"""
    assert errors(tmp_path, text, "x") == [
        "line 2: metric needs a name, such as test/mse",
        "line 3: unknown key 'parameterz'; did you mean parameters?",
        "line 7: model.depth: values is empty",
        "line 8: model.optimizer.lr: min 0.1 is above max 0.01",
        "line 9: command has no ${args} after ${program}, so that it would receive no parameters",
        "override 'x' is not of the form key=value[,value...]",
    ]


def test_what_wandb_accepts_is_valid(tmp_path: Path):
    more = "apiVersion: '1'\nkind: sweep\ncontroller: {type: local}\nentity: us\n"
    early = "early_terminate: {type: hyperband, max_iter: 27, s: 2, eta: 2, strict: true}\n"
    sweep = load(tmp_path, more + early + parameters("{lr: {distribution: normal}, x: {values: [yes, 1e-3]}}", "bayes"))
    assert sweep.method == "bayes" and sweep.entity == "us" and sweep.goal == "minimize"
    assert sweep.early_terminate == Hyperband(None, 27, 2, eta=2, strict=True)
    assert sweep.distributions["x"].choices == [True, "1e-3"]


def test_anchors_and_merges_are_not_duplicates(tmp_path: Path):
    block = (
        "{a: &a {parameters: &p {x: {value: 1}, y: {value: 2}}}, b: *a, c: {parameters: &m {<<: *p, y: {value: 3}}}, "
    )
    sweep = load(tmp_path, parameters(block + "d: {parameters: *m}}"))
    assert {key: distribution.settings["value"] for key, distribution in sweep.distributions.items()} == {
        **{"a.x": 1, "a.y": 2, "b.x": 1, "b.y": 2, "c.x": 1, "c.y": 3, "d.x": 1, "d.y": 3}
    }


@pytest.mark.parametrize("path", sorted(Path("sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_of_the_repository_survive_a_yaml_round_trip(path: Path, tmp_path: Path):
    sweep = load_definition(path)
    assert load(tmp_path, sweep.to_yaml()) == sweep


@pytest.mark.parametrize("path", sorted(Path("sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_head_of_a_sweep_is_complete(path: Path):
    """The comment names commands, number of runs, time and expected result; the number of runs is that of the grid."""
    comment = path.read_text(encoding="utf-8").split("name:")[0]
    head = dict(re.findall(r"^# (\S+): (.*(?:\n#   .*)*)", comment, re.MULTILINE))
    assert {"Command", "W&B", "Runs", "Time", "Expect"} <= set(head) and {"Source", "Question"} & set(head)
    assert head["Command"].startswith(f"python sweep.py run sweeps/{path.stem}.yaml")
    assert head["W&B"] == f"wandb sweep sweeps/{path.stem}.yaml && wandb agent ENTITY/PROJECT/ID"
    sweep = load_definition(path)
    seeds = len(sweep.values.get("seed_everything", [0])) if " per seed" in head["Runs"] else 1
    assert int(head["Runs"].split()[0]) * seeds == len(sweep)
    pages = re.findall(r"docs/(\w+\.md)#([\w-]+)", comment)
    for page, anchor in pages:
        titles = re.findall(r"^#+ (.*)", (Path("docs") / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles]


def test_a_definition_survives_a_yaml_round_trip(tmp_path: Path):
    overrides = ("model.width=1e-3,it's,on", "new.key=null", "trainer.callbacks=[{a: 1.0e-7}]")
    sweep = load(tmp_path, NESTED, *overrides)
    again = load(tmp_path, sweep.to_yaml())
    assert again == sweep and again.record() == sweep.record() and list(again.points()) == list(sweep.points())
    assert [again.arguments(p) for p in again.points()] == [sweep.arguments(p) for p in sweep.points()]
    assert again != load(tmp_path, NESTED)
    raw = yaml.safe_load(sweep.to_yaml())
    assert raw["parameters"]["model"]["parameters"]["optimizer"] == {"parameters": {"lr": {"values": [1e-5, 0.1]}}}
    assert raw["command"][:3] == ["${env}", "${interpreter}", "${program}"]


def test_all_distributions_survive_a_yaml_round_trip(tmp_path: Path):
    block = "{a: {distribution: q_normal, q: 2}, b: {min: 1.0, max: 2}, c: {min: 1, max: 2}, "
    block += "d: {values: [1, 2], probabilities: [0.1, 0.9]}, e: {distribution: uniform, min: 1, max: 2}}"
    sweep = load(tmp_path, parameters(block, "random"))
    assert load(tmp_path, sweep.to_yaml()) == sweep


def test_a_record_is_json_without_the_keys_that_may_change(tmp_path: Path):
    sweep = load(tmp_path, NESTED)
    record = sweep.record()
    assert json.loads(json.dumps(record)) == record
    assert set(record) == {"method", "metric", "goal", "program", "command", "parameters", "early_terminate"}
    other = load(
        tmp_path, NESTED.replace("run_cap: 7", "run_cap: 8").replace("nested blocks", "blocks") + "name: other\n"
    )
    assert other != sweep and differences(record, other.record()) == []


def test_differences_are_readable(tmp_path: Path):
    old = load(tmp_path, NESTED).record()
    text = NESTED.replace("min_iter: 2", "min_iter: 2, eta: 2").replace("goal: maximize", "goal: minimize")
    new = load(tmp_path, text.replace("min: 1, max: 2", "values: [1]"), "model.width=8,4,2", "seed=0,1").record()
    del new["parameters"]["trainer.precision"]
    assert differences(old, new) == [
        "goal changed from maximize to minimize",
        "early_terminate.eta changed from 3 to 2",
        "parameters.data.size: distribution changed from int_uniform to categorical",
        "parameters.data.size: min changed from 1 to nothing",
        "parameters.data.size: max changed from 2 to nothing",
        "parameters.data.size: values changed from nothing to [1]",
        "parameters.model.width: values changed from [8, 4] to [8, 4, 2]",
        "parameters.seed was added (distribution categorical, values [0, 1])",
        "parameters.trainer.precision was removed (distribution constant, value null)",
    ]


def test_true_and_1_are_different(tmp_path: Path):
    old, new = (load(tmp_path, parameters(f"{{a: {{values: [{value}]}}}}")).record() for value in ("true", "1"))
    assert differences(old, new) == ["parameters.a: values changed from [true] to [1]"]
