"""Sweeps, with or without a W&B server: run one here, be an agent of one, send one to W&B, look at one."""

import argparse
import os
import sys
from pathlib import Path

from genlab.arguments import positive
from genlab.runs.errors import UsageError

INTERRUPTED = 130


def run(options: argparse.Namespace) -> int:
    """Work on a sweep until it is done, with no server; the same command goes on where it stopped, and any number of
    them work side by side."""
    from genlab.sweep.engine import Options, run_sweep
    from genlab.sweep.parser import load_definition

    sweep = load_definition(options.file, options.override)
    devices = [name for name in options.devices.split(",") if name]
    own = ("root", "workers", "storage", "count", "retry", "grace", "tries")
    how = Options(devices=devices, **{name: getattr(options, name) for name in own})
    tally = run_sweep(sweep, how)
    kept = f", {tally.kept} kept from before" if tally.kept else ""
    failed = f", {tally.failed} failed" if tally.failed else ""
    print(f"{sweep.name}: {tally.finished} runs finished{kept}{failed}")
    if tally.signal is not None:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + tally.signal
    if options.report:
        try:
            _draw(tally.folder)
        except (UsageError, OSError) as error:  # the sweep itself is done
            print(f"error: {error}", file=sys.stderr)
    if tally.standing is not None and tally.standing.failed:
        print(f"{tally.standing.failed} of the sweep's runs have failed; --retry runs them again", file=sys.stderr)
        return 1
    return 0


def agent(options: argparse.Namespace) -> int:
    """Be an agent of a W&B sweep, as `wandb agent` is, in one warm process for all of its runs."""
    from genlab.sweep.agent import run_agent

    tally = run_agent(options.sweep, options.count, options.devices or None)
    print(f"{tally.finished} runs finished, {tally.failed} failed")
    if tally.signal is not None:
        return 128 + tally.signal
    return 1 if tally.failed else 0


def report(options: argparse.Namespace) -> int:
    """Draw the charts of experiments as one HTML page, with tables and PNGs beside it."""
    from genlab.report.writer import write_report_files

    if not options.folders and not options.wandb:
        raise UsageError("name a folder, such as runs/quickstart, or a W&B sweep by --wandb ENTITY/PROJECT/ID")
    for folder in options.folders:
        _draw(folder)
    if options.wandb:
        from genlab.report.wandb_records import load_wandb_sweep

        folder = Path(options.root) / "wandb" / options.wandb.replace("/", "_")
        data = load_wandb_sweep(options.wandb, folder / "pictures")
        _list(folder, write_report_files(data, folder / "report"))
    return 0


def board(options: argparse.Namespace) -> int:
    """Save the charts of a W&B project as a workspace there."""
    from genlab.report.board import save_board

    print(save_board(options.project, options.name))
    return 0


def sync(options: argparse.Namespace) -> int:
    """Send the runs of a sweep that were logged offline to W&B, each once."""
    from genlab.sweep.sync import sync as send

    status = False
    for folder in options.folders:
        status |= bool(send(folder, project=options.project, entity=options.entity).failed)
    return int(status)


def _draw(folder: Path) -> None:
    from genlab.report.writer import write_report

    _list(folder, write_report(folder))


def _list(folder: Path, files: list[Path]) -> None:
    print(f"tables and charts of {folder}:")
    for path in files:
        print(f"  {path}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="sweep.py", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="run | agent | report | board | sync")

    def command(function: object, name: str) -> argparse.ArgumentParser:
        text = " ".join((function.__doc__ or "").split())
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=function)
        return made

    one = command(run, "run")
    one.add_argument("file", type=Path, help="a W&B sweep definition, such as sweeps/quickstart.yaml")
    one.add_argument("--workers", type=positive, help="runs at a time (default: one, or one a device)")
    one.add_argument("--devices", default="", metavar="0,1", help="GPUs to share out among the workers")
    one.add_argument(
        "--storage",
        metavar="URL",
        help="where the queue is: sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/NAME for several machines "
        "(default: sweep.db in the sweep's folder)",
    )
    one.add_argument("--count", type=positive, help="how many runs to do at most")
    one.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE...]",
        help="set or add a parameter's values, such as seed_everything=0,1,2 or data.root=/data; may be repeated",
    )
    one.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="draw the charts at the end (default)"
    )
    one.add_argument("--retry", action="store_true", help="do failed runs again")
    one.add_argument(
        "--grace",
        type=positive,
        default=60,
        metavar="SECONDS",
        help="give a run to another when its machine was silent for so long; alike on all machines (default: 60)",
    )
    one.add_argument(
        "--tries", type=positive, default=3, help="a run whose process dies so often has failed (default: 3)"
    )
    one.add_argument("--root", default="runs", help="folder of all runs (default: runs)")

    two = command(agent, "agent")
    two.add_argument("sweep", metavar="ENTITY/PROJECT/ID", help="as `wandb sweep` names it")
    two.add_argument("--count", type=positive, help="how many runs to do at most")
    two.add_argument("--devices", default="", metavar="0,1", help="GPUs that the runs may use")

    three = command(report, "report")
    three.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="runs/<sweep>")
    three.add_argument("--wandb", metavar="ENTITY/PROJECT/ID", help="a sweep on W&B instead")
    three.add_argument("--root", default="runs", help="where the report of a W&B sweep goes (default: runs)")

    four = command(board, "board")
    four.add_argument("project", metavar="ENTITY/PROJECT", help="on W&B")
    four.add_argument("--name", help="of the workspace")

    five = command(sync, "sync")
    five.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="runs/<sweep>")
    five.add_argument("--project", help="on W&B (default: the one that the runs name)")
    five.add_argument("--entity", help="on W&B (default: the key's own)")
    return top


def main(args: list[str] | None = None) -> int:
    options = parser().parse_args(args)
    try:
        return options.command(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `sweep.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
