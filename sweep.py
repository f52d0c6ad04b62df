"""Sweeps: `python sweep.py run sweeps/quickstart.yaml` runs one here, `python sweep.py report DIR` draws one."""

import os
import sys
from pathlib import Path

from jsonargparse import auto_cli

from harness.definition import load_definition
from harness.errors import UsageError


def run(file: Path, override: list[str] | None = None, root: str = "runs") -> int:
    """Runs every point of a sweep's grid in this process, skipping those that are finished, then draws its charts.

    Args:
        file: a W&B sweep definition.
        override: key=value,value sets a parameter's values; may be given several times by --override+.
        root: folder of all runs.
    """
    sweep = load_definition(file, override or [])
    import train  # after the definition is known to be good: it takes seconds
    from harness.engine import run_grid

    tally = run_grid(sweep, train.main, root)
    print(f"{sweep.name}: {tally.finished} runs finished, {tally.kept} kept from before, {tally.failed} failed")
    status = report(Path(root) / sweep.name)
    return 1 if tally.failed else status


def report(folder: Path, metrics: list[str] | None = None) -> int:
    """Writes runs.csv, tables and charts of an experiment's runs into its report/ folder.

    Args:
        folder: runs/<experiment>.
        metrics: what to draw; by default everything measured on the test set.
    """
    from harness.report import write_report

    for path in write_report(folder, metrics):
        print(f"wrote {path}")
    return 0


def main(args: list[str] | None = None) -> int:
    try:
        return auto_cli([run, report], args=args)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    os.environ.setdefault("WANDB_SILENT", "true")
    sys.exit(main())
