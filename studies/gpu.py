"""Measures genlab on this machine's GPU, trains what a CPU is too slow for, and writes docs/results-gpu.md.

python -m studies.gpu --minutes 12 --data-root data
python -m studies.gpu --minutes 2 --device cpu --steps 1 --root /tmp/gpu --output /tmp/gpu/page.md --models VAE \\
  --parts speed samples packs                                                     # a rehearsal without a GPU

In this order: the speed of `fit` against a bare loop for each model, in single precision and in bf16-mixed; samples a
second; models packed into one program; runs a minute of a sweep by the number of workers; whole sweeps; the trainings,
the most important one first; in the minutes that are left the speed with compiled networks, as compiling takes long.
Nothing is begun that would not end within the minutes. What was measured is kept in gpu/NAME.json in the folder of all
runs, where NAME is that of the GPU: the same command goes on from there, and a training goes on from its last
checkpoint. Where one measurement fails, the page says so, and the others go on.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Trainer

import train
from genlab.runs.errors import describe_error
from genlab.runs.folder import read_summary, write_atomically
from lit_models import GenerativeModule
from lit_models.common.adversarial import AdversarialBase
from studies.benchmarks import machine
from studies.benchmarks.overhead import Epoch, epoch_of, measure, wait_for
from studies.benchmarks.pack import measure as measure_pack
from studies.benchmarks.sweep import ENCODER
from studies.command import make_parser, run_command
from studies.gpu_work import MODELS, PACKS, SAMPLED, SETTINGS, TRAININGS, WORKERS, Training
from studies.page import DOCS, REPOSITORY

PAGE = DOCS / "results-gpu.md"
PAIRS = 3
"""Pairs of epochs of `fit` and of the bare loop, after a first one that does not count."""
Json = dict[str, Any]
Measurement = tuple[str, str, float, Callable[[], Json]]
"""The part of the page, the name in it, about how many seconds it takes, and what measures it."""
SECTIONS = {
    "speed": (
        "Training steps a second",
        "`fit` with logging against an uncompiled loop in plain PyTorch on the model's own loss terms; the ratio is"
        f" that of the seconds, the median of {PAIRS} pairs.",
        ["model", "fit", "bare loop", "ratio"],
        ("fit", "bare", "ratio"),
    ),
    "samples": ("Samples a second", "", ["model", "samples"], ("samples",)),
    "packs": (
        "Models packed into one program",
        "How many times faster than one model after another, the milliseconds of a step of all of them, and the largest"
        " difference of the losses of the first steps (`python -m studies.benchmarks.pack`).",
        ["models", "times", "ms", "difference"],
        ("ratio", "milliseconds", "difference"),
    ),
    "workers": (
        "Workers of a sweep",
        "Runs a minute of `sweeps/ae_capacity.yaml` with one short epoch.",
        ["workers", "runs"],
        ("runs",),
    ),
    "sweeps": ("Whole sweeps", "With 8 workers.", ["sweep", "seconds"], ("seconds",)),
    "trainings": ("Trainings", "", ["run", "seconds", "metrics"], ("seconds", "metrics")),
}
"""The parts of the page: title, text, head of the table, and what its columns are."""


class Study:
    """Measures one thing after another until the minutes are over, and keeps what was measured in a file.

    Args:
        options: Options of the command.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.cuda.get_device_name() if options.device == "cuda" else "no GPU"
        self.file: Path = options.root / "gpu" / f"{re.sub(r'[^0-9A-Za-z]+', '-', self.device)}.json"
        self.measured: dict[str, Json] = json.loads(self.file.read_text("utf-8")) if self.file.is_file() else {}
        self.deadline = time.monotonic() + 60 * options.minutes
        self.left: list[str] = []
        self.accelerator = "cpu" if options.device == "cpu" else "gpu"
        self.on_device = [f"--trainer.accelerator={self.accelerator}", "--trainer.devices=1", "--run.wandb=disabled"]
        self.on_device += [f"--data.root={options.data_root}"]

    def once(self, part: str, name: str, seconds: float, work: Callable[[], Json]) -> None:
        """Measures what is not yet measured, if it will end within the minutes."""
        done = self.measured.setdefault(part, {})
        if "failed" not in done.get(name, {"failed": "not yet measured"}):
            return
        if time.monotonic() + seconds > self.deadline:
            self.left.append(f"{part} of {name}")
            return
        print(f"{part}: {name}", flush=True)
        began = time.perf_counter()
        try:
            done[name] = work()
        except (Exception, SystemExit) as error:
            done[name] = {"failed": describe_error(error)[:300]}
        done[name] |= {"whole_seconds": time.perf_counter() - began}
        print(f"  {done[name]}", flush=True)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, json.dumps(self.measured, indent=1) + "\n")

    def speed(self, name: str, setting: str) -> Json:
        """Training steps a second of `fit` and of a bare loop."""
        steps, options = self.options.steps, [*MODELS[name], *SETTINGS[setting], *self.on_device]
        options += [f"--trainer.limit_train_batches={steps}", "--trainer.limit_val_batches=0", "--run.pictures=false"]
        options += ["--trainer.limit_test_batches=1"]
        half = setting != "32-true"
        pairs = measure(lambda trainer: bare_loop(trainer, steps, half), PAIRS, options)
        fit, bare = (steps / statistics.median(side) for side in zip(*pairs, strict=True))
        return {"fit": fit, "bare": bare, "ratio": statistics.median(ours / theirs for ours, theirs in pairs)}

    def samples(self, name: str) -> Json:
        """Samples a second of an untrained model."""
        with tempfile.TemporaryDirectory() as folder:
            short = [f"--trainer.limit_{stage}_batches=1" for stage in ("train", "val", "test")]
            short += ["--trainer.max_epochs=1", "--run.pictures=false", f"--run.root={folder}"]
            run = train.main(["fit", *MODELS[name], *self.on_device, *short]).folder
            model: Any = GenerativeModule.load(run / "checkpoints" / "last.ckpt")
        model.to(self.options.device)
        size = 500 if self.options.device != "cpu" else 20
        label = None if getattr(model, "num_classes", None) is None else 0
        drawn, began = 0, 0.0
        with torch.no_grad():
            for round_ in range(3):  # the first one does not count
                if round_ == 1:
                    began = time.perf_counter()
                model.sample(size, label)
                wait_for(model.device)
                drawn += size * (round_ > 0)
        return {"samples": drawn / (time.perf_counter() - began)}

    def pack(self, count: int) -> Json:
        """How many times faster some autoencoders train as one program than one after another."""
        found = measure_pack(count, torch.device(self.options.device), steps=self.options.steps)
        return {"ratio": found.ratio, "milliseconds": 1000 * found.packed, "difference": found.difference}

    def workers(self, count: int) -> Json:
        """Runs a minute of a short sweep."""
        short = ["trainer.max_epochs=1", f"trainer.limit_train_batches={self.options.steps}", "run.pictures=false"]
        short += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
        return {"runs": 12 / self._sweep("ae_capacity", count, short) * 60}

    def sweep(self, name: str, count: int) -> Json:
        """Seconds of a whole sweep of this repository; the encoders of `transfer` are those of `ae_capacity`."""
        root: Path = self.options.root.resolve()
        encoder = f'model.encoder_checkpoint="{root / "ae_capacity" / ENCODER}"'
        return {"seconds": self._sweep(name, count, [encoder] if name == "transfer" else [], root)}

    def _sweep(self, name: str, count: int, overrides: list[str], root: Path | None = None) -> float:
        with tempfile.TemporaryDirectory() as folder:
            fixed = [f"data.root={self.options.data_root.resolve()}", *overrides]
            command = [sys.executable, "sweep.py", "run", f"sweeps/{name}.yaml", f"--workers={count}", "--no-report"]
            command += [f"--root={root or folder}", *(f"--override={value}" for value in fixed)]
            command += ["--devices=0"] if self.accelerator == "gpu" else []
            began = time.perf_counter()
            environment = os.environ | {"WANDB_MODE": "disabled"}
            done = subprocess.run(  # noqa: S603
                command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError((done.stdout + done.stderr).strip().splitlines()[-1])
            return time.perf_counter() - began

    def train(self, training: Training) -> Json:
        """The metrics of a training, which goes on from its last checkpoint if there is one."""
        args = ["fit", *training.args, *self.on_device, f"--run.root={self.options.root}", "--ckpt_path=last"]
        run = train.main([*args, f"--run.name={training.name}"])
        summary = read_summary(run.folder) or {}
        metrics = {name: run.metrics[name] for name in training.metrics if name in run.metrics}
        return {"seconds": summary.get("seconds"), "metrics": metrics}

    def seconds_of(self, training: Training) -> float:
        """How long a training will take, by the speed that was measured, or else by its own guess."""
        speed = self.measured.get("speed", {}).get(f"{training.speed}, bf16-mixed", {}).get("fit")
        return training.seconds if speed is None else 30 + 1.2 * training.steps / speed

    def run(self) -> None:
        """Measures everything that the minutes allow."""
        for part, name, seconds, work in self.plan():
            self.once(part, name, seconds, work)

    def plan(self) -> Iterator[Measurement]:
        """What is measured, in this order."""
        for part in self.options.parts:
            yield from getattr(self, f"_{part}")()
        if "speed" in self.options.parts:
            yield from self._speed(compiled=True)

    def _speed(self, compiled: bool = False) -> Iterator[Measurement]:
        for setting in SETTINGS:
            if ("compiled" in setting) == compiled:
                for name in self.options.models:
                    yield (
                        "speed",
                        f"{name}, {setting}",
                        self._seconds(name, compiled),
                        partial(self.speed, name, setting),
                    )

    def _seconds(self, name: str, compiled: bool) -> float:
        """How long the speed of a model takes to measure, by the time that it took in other settings."""
        found = self.measured.get("speed", {}).items()
        before = [one["whole_seconds"] for key, one in found if key.startswith(f"{name}, ") and "failed" not in one]
        return max([15, *before]) + 75 * compiled

    def _samples(self) -> Iterator[Measurement]:
        for name in self.options.models:
            if name in SAMPLED:
                yield "samples", name, 30, partial(self.samples, name)

    def _packs(self) -> Iterator[Measurement]:
        for count in PACKS:
            yield "packs", str(count), 20, partial(self.pack, count)

    def _workers(self) -> Iterator[Measurement]:
        for count in WORKERS:
            yield "workers", str(count), 60, partial(self.workers, count)

    def _sweeps(self) -> Iterator[Measurement]:
        for name, seconds in (("ae_capacity", 120), ("transfer", 40)):
            yield "sweeps", name, seconds, partial(self.sweep, name, 8)

    def _trainings(self) -> Iterator[Measurement]:
        for training in TRAININGS:
            yield "trainings", training.label, self.seconds_of(training), partial(self.train, training)


def bare_loop(trainer: Trainer, steps: int, half: bool) -> Epoch:
    """An epoch in plain PyTorch of an untrained copy of the trainer's model, by the model's own loss terms."""
    original: Any = trainer.lightning_module
    device = trainer.strategy.root_device
    model: Any = GenerativeModule.from_config(original.model_config()).to(device).train()
    loader: Any = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]

    def minimised(terms: Callable[[], Mapping[str, torch.Tensor]], optimizer: torch.optim.Optimizer) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = next(iter(terms().values()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if isinstance(model, AdversarialBase):
        optimizers = [model.make_optimizer(network.parameters()) for network in (model.discriminator, model.generator)]

        def step(*batch: torch.Tensor) -> None:
            minimised(lambda: model.discriminator_terms(*model.discriminator_step_inputs(batch)), optimizers[0])
            model.discriminator.requires_grad_(False)
            minimised(lambda: model.generator_terms(*model.generator_step_inputs(batch)), optimizers[1])
            model.discriminator.requires_grad_(True)
    else:
        optimizer = model.make_optimizer(p for p in model.parameters() if p.requires_grad)

        def step(*batch: torch.Tensor) -> None:
            minimised(lambda: model.loss_terms(batch), optimizer)

    return epoch_of(step, loader, steps)


def page(measured: Mapping[str, Json], left: list[str], command: str, device: str = "no GPU") -> str:
    """The page in Markdown."""
    versions = f"Python {sys.version.split()[0]}, CUDA {torch.version.cuda or 'none'}"
    lines = [
        "# Results on a GPU",
        "",
        f"Measured on {device} ({machine()}; {versions}, lightning {lightning.__version__}), on"
        f" {datetime.now(UTC):%Y-%m-%d}, by this command, which goes on where it stopped:",
        *("", "```", command, "```"),
    ]
    for part, (title, text, head, keys) in SECTIONS.items():
        rows = [
            [name, *(_text(values.get(key, values.get("failed"))) for key in keys)]
            for name, values in measured.get(part, {}).items()
        ]
        if rows:
            lines += ["", f"## {title}", *(["", *textwrap.wrap(text, 120)] if text else []), "", *_table(head, rows)]
    if left:
        lines += ["", *textwrap.wrap("Not measured, as it would not have ended in time: " + ", ".join(left) + ".", 120)]
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(number)}" for name, number in value.items())
    return (
        f"{value:,.3g}"
        if isinstance(value, int | float) and abs(value) < 1000
        else (f"{value:,.0f}" if isinstance(value, int | float) else str(value).replace("|", "/"))
    )


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def main() -> None:
    parser = make_parser(__doc__, data=True)
    parser.add_argument("--minutes", type=float, default=12, help="minutes that it may take (default: %(default)s)")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=100, help="batches of an epoch for the speed (default: 100)")
    parser.add_argument(
        "--parts", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="parts of the page (default: all)"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="models (default: all)")
    parser.add_argument("--output", type=Path, default=PAGE, help="page to write (default: %(default)s)")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU; --device cpu rehearses the command on the CPU")
    os.environ["WANDB_SILENT"] = "true"
    study = Study(options)
    study.run()
    command = shlex.join(["python", "-m", "studies.gpu", *sys.argv[1:]])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.output, page(study.measured, study.left, command, study.device))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    run_command(main)
