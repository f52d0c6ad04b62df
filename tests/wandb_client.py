"""The real wandb client in separate processes, with a private home and without a network."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests import HANG_SECONDS, preloaded
from tests.wandb_server import WandbServer

ROOT = Path(__file__).parents[1]
KEY = "0123456789" * 4


class Client:
    """Runs wandb in separate processes with a private home, against one mock server."""

    def __init__(self, home: Path, server: WandbServer) -> None:
        self.home = home
        self.executable = preloaded.python()
        folders = [str(Path(python).parent) for python in (self.executable, preloaded.PLAIN_PYTHON)]
        kept = {name: value for name, value in os.environ.items() if not re.match("wandb_|.*_proxy$", name, re.I)}
        self.environment = kept | {
            "HOME": str(home),
            "NETRC": str(home / "netrc"),
            "WANDB_CONFIG_DIR": str(home / "config"),
            "WANDB_CACHE_DIR": str(home / "cache"),
            "WANDB_BASE_URL": server.url,
            "WANDB_ERROR_REPORTING": "false",
            "PYTHONPATH": str(ROOT),
            "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
        }

    def start(self, function: Callable[..., None], *args: object, **streams: Any) -> subprocess.Popen[str]:
        """Calls a function of a test module in a new process, by default with no stdin and all output on stdout."""
        call = f"import {function.__module__} as t; t.{function.__name__}(*{args!r})"
        return self.python("-c", call, **streams)

    def python(self, *args: str, **streams: Any) -> subprocess.Popen[str]:
        """Starts Python, by default with no stdin and all output on stdout."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | streams
        return subprocess.Popen([self.executable, *args], env=self.environment, cwd=self.home, text=True, **streams)

    def run(self, function: Callable[..., None], *args: object) -> str:
        """Calls a function of a test module in a new process; returns its output."""
        return finished(self.start(function, *args))

    def sync(self, command: str) -> None:
        """Runs a `wandb sync` command."""
        program = [self.executable, "-m", *shlex.split(command)]
        subprocess.run(program, env=self.environment, cwd=self.home, check=True, timeout=HANG_SECONDS)


def finished(process: subprocess.Popen[str]) -> str:
    """Waits for a process, checks that it succeeded, and returns its output."""
    try:
        output, _ = process.communicate(timeout=HANG_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


def start_wandb(client: Client, *args: str) -> subprocess.Popen[str]:
    """Starts a `wandb` command."""
    return client.python("-m", "wandb", *args)


def run_names(*depths: int) -> list[str]:
    """Returns the names of the run folders of small_sweep, whose depths alone differ."""
    return [f"depth={depth}" for depth in depths]


def small_sweep(folder: Path, depths: Sequence[int] = (1, 2), epochs: int = 1, more: Sequence[str] = ()) -> Path:
    """Writes a copy of sweeps/quickstart.yaml with a small model, few epochs and the runs in `folder`/runs."""
    definition = yaml.safe_load((ROOT / "sweeps" / "quickstart.yaml").read_text(encoding="utf-8"))
    config = yaml.safe_load((ROOT / "configs" / "autoencoder_digits.yaml").read_text(encoding="utf-8"))
    config["model"]["init_args"] |= {"channel_factor": 4, "hidden_dim": 32}
    config["trainer"]["max_epochs"] = epochs
    (folder / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [folder / "small.yaml" if str(item).startswith("configs/") else item for item in definition["command"]]
    own = [f"--run.root={folder / 'runs'}", "--run.pictures=false", "--trainer.accelerator=cpu"]
    definition |= {
        "program": str(ROOT / "train.py"),
        "parameters": {
            "model.init_args.depth": {"values": list(depths)},
            "model.latent_dim": {"values": [3]},
            "trainer.gradient_clip_val": {"value": None},
        },
        "command": [str(item) for item in [*command, *own, *more]],
    }
    file = folder / "small_sweep.yaml"
    file.write_text(yaml.safe_dump(definition), encoding="utf-8")
    return file
