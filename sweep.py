"""Sweeps: `python sweep.py run sweeps/quickstart.yaml` runs one here, `python sweep.py report DIR` draws one."""

import argparse
import sys
from pathlib import Path

from harness.definition import load_definition
from harness.errors import UsageError


def run(options: argparse.Namespace) -> int:
    """Runs every point of the grid that is not finished yet, then draws the charts."""
    sweep = load_definition(options.file, options.override)
    import train  # seconds of imports, so only once the definition is known to be good
    from harness.engine import run_grid

    tally = run_grid(sweep, train.main, options.root)
    print(f"{sweep.name}: {tally.finished} runs finished, {tally.kept} kept from before, {tally.failed} failed")
    if tally.finished + tally.kept:
        draw(Path(options.root) / sweep.name, sweep.metric, sweep.goal)
    return 1 if tally.failed else 0


def report(options: argparse.Namespace) -> int:
    """Draws the charts of experiments that were run before."""
    for folder in options.folders:
        draw(folder)
    return 0


def draw(folder: Path, metric: str | None = None, goal: str = "minimize") -> None:
    from harness.report import best_run, write_report

    print(f"\ntables and charts of {folder}:")
    for path in write_report(folder):
        print(f"  {path}")
    best = best_run(folder, metric, goal) if metric else None
    if best is not None:
        print(f"pictures of the best run, {metric} {best.score:.4g}:")
        for path in sorted((best.folder / "media").glob("*.png")):
            print(f"  {path}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="sweep.py", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="run | report")
    one = commands.add_parser("run", help=run.__doc__, description=run.__doc__)
    one.add_argument("file", type=Path, help="a W&B sweep definition, such as sweeps/quickstart.yaml")
    one.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE...]",
        help="set or add a parameter's values, such as seed_everything=0,1,2 or data.root=/data; may be repeated",
    )
    one.add_argument("--root", default="runs", help="folder of all runs (default: runs)")
    one.set_defaults(command=run)
    two = commands.add_parser("report", help=report.__doc__, description=report.__doc__)
    two.add_argument("folders", type=Path, nargs="+", help="runs/<sweep>")
    two.set_defaults(command=report)
    return top


def main(args: list[str] | None = None) -> int:
    options = parser().parse_args(args)
    try:
        return options.command(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code == 0:
            raise
        print("stopped; the same command goes on with the runs that are not finished", file=sys.stderr)
        return 143 if type(stop).__name__ == "SIGTERMException" else 130


if __name__ == "__main__":
    sys.exit(main())
