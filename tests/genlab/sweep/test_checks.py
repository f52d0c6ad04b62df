"""The check of a sweep against train.py, whose functions are called in this process."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import train
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from genlab.sweep.checks import check_program
from genlab.sweep.parser import load_definition
from tests.helpers import small_autoencoder


@functools.cache
def answer(args: tuple[str, ...]) -> str | None:
    return train.check(list(args))


class TrainPy:
    """In place of a worker process; the metrics are those of an autoencoder."""

    def check(self, commands: Sequence[list[str]]) -> list[str | None]:
        return [answer(tuple(args)) for args in commands]

    def logged(self, args: list[str]) -> dict[str, Any]:
        return {"epoch": ["val/mse"], "end": ["test/mse", "val/mse"]}


def errors(folder: Path, parameters: str, metric: str = "test/mse") -> list[str]:
    """Returns the errors of a sweep over the digits without a config file."""
    path = folder / "sweep.yaml"
    command = '["${program}", fit, --data=DigitsDataModule, "${args}"]'
    head = f"method: grid\nmetric: {{name: {metric}}}\n"
    path.write_text(f"{head}parameters: {{{parameters}}}\ncommand: {command}\n", encoding="utf-8")
    sweep = load_definition(path)
    try:
        check_program(sweep, TrainPy(), sweep.arguments)  # type: ignore[arg-type]
    except UsageError as error:
        return str(error).split("\n  ")[1:]
    return []


@pytest.mark.parametrize(
    ("parameters", "messages"),
    [
        ("model: {values: [Autoencoder, SparseAutoencoder]}, model.latent_dim: {value: 2}", []),
        ("model: {parameters: {class_path: {values: [VAE]}, init_args: {parameters: {latent_dim: {value: 2}}}}}", []),
        ("model: {values: [Autoencodr, VAE]}", ["line 3: model: there is no model Autoencodr; did you mean"]),
        ("model: {value: Autoencodr}", ["line 3: model: there is no model Autoencodr; did you mean"]),
        (
            "model: {values: [VAE, GAN]}, model.beta: {values: [1, 2]}",
            ["line 3: model.beta: there is no option --model.beta of GAN"],
        ),
        ("model.depth: {value: 2}", ["line 4: --model is missing"]),
    ],
)
def test_a_class_that_the_command_needs_can_be_a_parameter(parameters: str, messages: list[str], tmp_path: Path):
    found = errors(tmp_path, parameters)
    assert len(found) == len(messages) and all(map(str.startswith, found, messages)), found


def test_errors_of_parameters_and_of_the_metric_are_reported_together(tmp_path: Path):
    found = errors(tmp_path, "model: {value: VAE}, model.latnt_dim: {values: [1, 2]}", "test/msee")
    assert [line.split(";")[0] for line in found] == [
        "line 2: the runs do not log test/msee",
        "line 3: model.latnt_dim: there is no option --model.latnt_dim of VAE",
    ]


def test_the_options_in_which_a_run_differs_from_a_point(tmp_path: Path):
    given = [*small_autoencoder(), "--trainer.max_epochs=1", "--model.optimizer.lr=0.0001", f"--run.root={tmp_path}"]
    given += ["--trainer.accelerator=cpu"]
    recorded = (read_summary(train.main(["fit", *given]).folder) or {})["config"]

    def differing(*more: str, run: dict[str, Any] = recorded) -> list[str]:
        return train.differing_options(["fit", *given, *more], run)

    same = ["--model.init_args.optimizer.lr=1.0e-4", "--trainer.precision=null", "--run.name=x", "--data.root=data"]
    assert differing() == differing(*same) == differing(run={**recorded, "encoder.derived": 1}) == []
    changed = ["--data.root=elsewhere", "--checkpoint.every_n_steps=3", "--model.depth=3", "--quality.batch_size=7"]
    assert differing(*changed) == ["checkpoint.every_n_steps", "data.root", "model.depth", "quality.batch_size"]
    assert differing(run={**recorded, "trainer.precision": "bf16-mixed"}) == ["trainer.precision"]
    trained = {**recorded, "quality.classifier": "runs/classifier_digits/default/checkpoints/best.ckpt"}
    assert differing("--quality.classifier=train", run=trained) == []
    assert {"model", "model.beta"} <= {*differing("--model=VAE")}
