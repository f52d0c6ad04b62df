"""All that genlab does with Weights & Biases, tried on a real server with your key; no data, no GPU.

python -m studies.wandb_live ENTITY/PROJECT

Each step uses the commands as a user does, then asks the server for the result, and prints one line: OK or FAILED, and
the address to look at. The project gets six short runs, an artifact, a sweep and two workspaces, under names that
begin with `live-`; give a project of its own, which can be deleted afterwards. It takes a few minutes. The exit status
is 1 if a step failed, and 2 without a key or a server. `tests/studies/test_wandb_live.py` does the same with the mock
server of the tests.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from genlab.report.wandb_records import connect, media_files
from genlab.runs.errors import UsageError, describe_error
from studies.command import make_parser, run_command

HERE = Path(__file__).parents[1]
MODEL = ["--model=VAE", "--model.latent_dim=2", "--model.networks=MLPNetworks", "--model.networks.hidden_dims=[16]"]
DATA = ["--data=DigitsDataModule", "--data.batch_size=500", "--trainer.accelerator=cpu"]
TOLD = ["--run.notes=a trial", "--run.job_type=trial", "--run.tags=[live]"]
SWEPT = (2, 4)
TABLE_ROWS = 8
NEWEST = 50
"""The number of runs, the newest of the project, among which those of this script are."""
COMMAND_SECONDS = 600.0
POLL_SECONDS = 1.0


class Failed(Exception):  # noqa: N818
    """A step did not have the result that it should have."""


class Live:
    """The place of this trial: a project on W&B, and a folder.

    Args:
        project: ENTITY/PROJECT.
        root: Folder of all files.
        wait: Seconds that the server may take to show what it received.
    """

    def __init__(self, project: str, root: Path, wait: float) -> None:
        self.api = connect()
        self.wait = wait
        self.path = project
        self.experiment = time.strftime("live-%Y%m%d-%H%M%S")
        self.swept = f"{self.experiment}-sweep"
        self.folder = root.resolve() / self.experiment
        self.folder.mkdir(parents=True)
        self.sweep = ""

    def command(self, *words: str) -> str:
        """Runs a Python program of the project, or a module after -m; returns its output.

        Raises:
            Failed: Its exit status is not 0.
        """
        program = [sys.executable, *(str(HERE / word) if word.endswith(".py") else word for word in words)]
        done = subprocess.run(
            program,
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},  # that of this process
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        with (self.folder / "output.txt").open("a", encoding="utf-8") as file:
            file.write(f"$ python {' '.join(words)}\n{done.stdout}\n")
        if done.returncode:
            last = (done.stdout.strip().splitlines() or ["no output"])[-1]
            raise Failed(f"`{' '.join(words[:3])} ...` ended with status {done.returncode}: {last}")
        return done.stdout

    def fit(self, name: str, *options: str, mode: str = "online") -> None:
        """Trains a small model for an epoch."""
        entity, project = self.path.split("/")
        place = ["--run.root=.", f"--run.experiment={self.experiment}", f"--run.name={name}", f"--run.wandb={mode}"]
        self.command(
            *("train.py", "fit", *MODEL, *DATA, "--trainer.max_epochs=1", *place),
            *(f"--run.entity={entity}", f"--run.project={project}", *options),
        )

    def run(self, name: str) -> Any:
        """Returns the one run of this name on the server."""
        found = [run for run in self.newest() if run.name == f"{self.experiment}/{name}"]
        require(len(found) == 1, f"W&B has {len(found)} runs of the name {self.experiment}/{name}, not 1")
        return found[0]

    def newest(self) -> list[Any]:
        self.api.flush()  # the client answers from memory otherwise
        return list(islice(self.api.runs(self.path, order="-created_at", per_page=NEWEST, lazy=False), NEWEST))

    def eventually(self, check: Callable[[], str]) -> str:
        """Repeats a check until it passes, as the server needs some seconds to show what it received."""
        deadline = time.monotonic() + self.wait
        while True:
            try:
                return check()
            except Failed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Failed(otherwise)


def run_online(live: Live) -> str:
    """A run that is logged while it trains, with pictures"""
    live.fit("online", f"--sample_table.num_images={TABLE_ROWS}", "--run.log_checkpoints=best", *TOLD)

    def check() -> str:
        run = live.run("online")
        require(run.state == "finished", f"its state is {run.state}")
        told = (run.group, run.notes, run.job_type, run.tags)
        require(told == (live.experiment, "a trial", "trial", ["live"]), f"its group, notes, type and tags are {told}")
        lacks = [key for key in ("test/loss", "parameters", "seconds", "hardware") if key not in run.summary_metrics]
        require(not lacks, f"its summary lacks {', '.join(lacks)}")
        files = [name for value in run.summary_metrics.values() for name in media_files(value)]
        require(bool(files), "it has no picture")
        require(len(list(run.files(names=files))) == len(files), "pictures that it names are not there")
        return run.url

    return live.eventually(check)


def resume(live: Live) -> str:
    """A run that is resumed stays one run"""
    live.fit("online", "--trainer.max_epochs=2", "--ckpt_path=last")

    def check() -> str:
        run = live.run("online")
        steps = [row["trainer/global_step"] for row in run.history(pandas=False) if "val/loss" in row]
        require(len(steps) == len(set(steps)) == 2, f"its validations are at the steps {steps}, not at two")
        return run.url

    return live.eventually(check)


def table(live: Live) -> str:
    """Samples as a W&B Table"""

    def check() -> str:
        run = live.run("online")
        logged = run.summary_metrics.get("samples") or {}
        require(logged.get("nrows") == TABLE_ROWS, f"the summary has no table `samples` of {TABLE_ROWS} rows")
        return run.url

    return live.eventually(check)


def checkpoint(live: Live) -> str:
    """A checkpoint goes to W&B as an artifact and comes back by its name"""
    name = f"{live.path}/{live.experiment}-online"
    live.command("sample.py", f"wandb:{name}:best", "--count=4", "--output=grid.png")
    require((live.folder / "grid.png").is_file(), "sample.py has written no picture")
    live.fit("continued", f"--init_from=wandb:{name}:best", "--run.pictures=false")
    return live.run("continued").url


def offline(live: Live) -> str:
    """A run without the server, sent later by sweep.py sync"""
    live.fit("offline", mode="offline")
    before = [run.name for run in live.newest()]
    require(f"{live.experiment}/offline" not in before, "W&B has the run before it was sent")
    live.command("sweep.py", "sync", live.experiment)
    live.command("sweep.py", "sync", live.experiment)  # sends nothing twice

    def check() -> str:
        run = live.run("offline")
        require(run.state == "finished" and "test/loss" in run.summary_metrics, f"it is {run.state}, without test/loss")
        return run.url

    return live.eventually(check)


def alert(live: Live) -> str:
    """A training that goes wrong sends an alert: look for it at the address, or where W&B sends you alerts"""
    live.fit("diverging", "--model.optimizer=SGD", "--model.optimizer.lr=1.0e30", "--run.pictures=false")

    def check() -> str:
        run = live.run("diverging")
        require("not_finite" in run.tags, f"its tags are {run.tags}, without not_finite")
        return run.url

    return live.eventually(check)


def agent(live: Live) -> str:
    """wandb sweep, then sweep.py agent: two runs"""
    entity, project = live.path.split("/")
    command = ["${env}", "${interpreter}", "${program}", "fit", *MODEL, *DATA, "--run.root=.", "--trainer.max_epochs=1"]
    definition = {
        "name": live.swept,
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "test/loss", "goal": "minimize"},
        "parameters": {"model.latent_dim": {"values": list(SWEPT)}},
        "command": [*command, f"--run.experiment={live.swept}", "${args}"],
    }
    (live.folder / "sweep.yaml").write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
    output = live.command("-m", "wandb", "sweep", f"--entity={entity}", f"--project={project}", "sweep.yaml")
    named = re.search(r"wandb agent (\S+)", re.sub(r"\x1b\[\d*m", "", output))
    require(named is not None, "`wandb sweep` has named no sweep")
    assert named is not None
    live.command("sweep.py", "agent", named[1])

    def check() -> str:
        sweep = live.api.sweep(named[1])
        runs = [run for run in live.newest() if run.group == live.swept]
        found = sorted((run.config["model.latent_dim"], run.state) for run in runs)
        require(found == [(value, "finished") for value in SWEPT], f"its runs are {found}")
        live.sweep = named[1]
        return sweep.url

    return live.eventually(check)


def report(live: Live) -> str:
    """sweep.py report --wandb: the charts of the sweep as a page"""
    require(bool(live.sweep), "there is no sweep")
    live.command("sweep.py", "report", "--wandb", live.sweep, "--root=.")
    page = live.folder / "wandb" / live.sweep.replace("/", "_") / "report" / "index.html"
    require("latent_dim" in page.read_text(encoding="utf-8"), f"{page} does not show the parameter")
    return str(page)


def compare(live: Live) -> str:
    """sweep.py compare --wandb: the runs of the sweep in a table"""
    require(bool(live.sweep), "there is no sweep")
    output = live.command("sweep.py", "compare", "--wandb", live.sweep, "--output=table.csv", "--output=page.html")
    require("test/loss" in output, "the table has no test/loss")
    return str(live.folder / "page.html")


def board(live: Live) -> str:
    """sweep.py board: the charts as a workspace"""
    return _last_address(live.command("sweep.py", "board", live.path, "--name", f"{live.experiment} board"))


def comparison_board(live: Live) -> str:
    """sweep.py board --compare: experiments in a workspace of their own"""
    return _last_address(live.command("sweep.py", "board", live.path, "--compare", live.experiment, live.swept))


def _last_address(output: str) -> str:
    found = re.findall(r"https?://\S+nw=\w+", output)
    require(bool(found), "no address was printed")
    return found[-1]


STEPS = (run_online, table, resume, checkpoint, offline, alert, agent, report, compare, board, comparison_board)


def try_all(live: Live) -> bool:
    """Does all steps, prints one line for each, and returns whether all of them worked."""
    worked = []
    for step in STEPS:
        try:
            said = f"OK      {step.__doc__}: {step(live)}"
            worked.append(True)
        except Failed as error:
            said = f"FAILED  {step.__doc__}: {error}"
            worked.append(False)
        except Exception as error:
            said = f"FAILED  {step.__doc__}: {describe_error(error)}"
            worked.append(False)
        print(said, flush=True)
    return all(worked)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="the project on W&B")
    parser.add_argument(
        "--wait", type=float, default=60.0, help="seconds that W&B may take to show a result (default: %(default)s)"
    )
    parser.set_defaults(root=Path("runs") / "wandb_live")
    options = parser.parse_args()
    if len([part for part in options.project.split("/") if part]) != 2:
        raise UsageError(f"{options.project!r} is not the path of a project; give ENTITY/PROJECT")
    live = Live(options.project, options.root, options.wait)
    worked = try_all(live)
    print(f"the output of all commands: {live.folder / 'output.txt'}")
    if not worked:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
