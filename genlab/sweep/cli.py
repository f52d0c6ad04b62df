"""The command line of sweep.py: runs, reports and sends sweeps, with or without a W&B server."""

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from genlab.arguments import Parser, discard_output, find_in_current_folder, positive, share
from genlab.packaged import find_file
from genlab.runs.errors import UsageError
from genlab.words import counted

if TYPE_CHECKING:
    from genlab.sweep.definition import Definition
    from genlab.sweep.engine import Options, SweepResult
    from genlab.sweep.fleet import RayOptions

EXAMPLES = """examples:
  PROG run quickstart                                  a sweep that comes with genlab
  PROG run sweeps/ae_capacity.yaml --workers 2         your own file, or one in this folder
  PROG run quickstart --override seed_everything=0,1   other values of a parameter
  PROG report runs/quickstart                          draw its charts again
  PROG compare runs/vae_mnist runs/gan_mnist           models against models in one table
"""


def run(options: argparse.Namespace) -> int:
    """Run a sweep to its end, without a server. The same command resumes it, and several of them share its runs."""
    from genlab.sweep.checks import with_program_errors
    from genlab.sweep.engine import Options, run_sweep
    from genlab.sweep.parser import DefinitionError, load_definition

    devices = [name for name in options.devices.split(",") if name]
    own = ("root", "workers", "storage", "count", "retry", "grace", "tries")
    how = Options(devices=devices, ray=_ray_options(options), **{name: getattr(options, name) for name in own})
    try:
        sweep = load_definition(find_file(options.file, "sweeps"), options.override, options.repeats)
        if options.detach and options.slurm is None:
            raise UsageError("--detach is for jobs on a Slurm cluster; add --slurm, or leave it out")
        result = run_sweep(sweep, how) if options.slurm is None else _run_on_slurm(sweep, how, options)
    except DefinitionError as error:
        raise with_program_errors(error) from None
    if result.exit_status is not None:
        return result.exit_status
    kept = f", {result.kept} kept from before" if result.kept else ""
    failed = f", {result.failed} failed" if result.failed else ""
    print(f"{sweep.name}: {counted(result.finished, 'run')} finished{kept}{failed}")
    if result.signal is not None:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + result.signal
    if options.report:
        try:
            _draw(result.folder)
        except (UsageError, OSError) as error:  # the sweep itself is done
            print(f"error: {error}", file=sys.stderr)
    if result.status is not None and result.status.failed:
        print(f"{result.status.failed} of the sweep's runs have failed; --retry runs them again", file=sys.stderr)
        return 1
    return 0


def _run_on_slurm(sweep: "Definition", how: "Options", options: argparse.Namespace) -> "SweepResult":
    """Runs a sweep in jobs of a Slurm cluster.

    Raises:
        UsageError: Options exclude each other, or submitit is not installed.
    """
    _require_alone(options)
    words = [options.file, *(f"--override={override}" for override in options.override)]
    words += [f"--{name}={getattr(options, name)}" for name in ("root", "grace", "tries")]
    words += [] if options.repeats is None else [f"--repeats={options.repeats}"]
    return _slurm().run_on_slurm(sweep, how, options.slurm, words, options.detach)


def _require_alone(options: argparse.Namespace) -> None:
    """Raises UsageError if an option has no meaning beside --slurm."""
    if options.workers == "auto":
        raise UsageError("with --slurm, --workers is the number of jobs; give a number in place of auto")
    if options.count is not None:
        raise UsageError("--count is for one process; with --slurm, limit the whole sweep by run_cap in its file")
    for name, value in (("--ray", options.ray), ("--devices", options.devices)):
        if value:
            raise UsageError(f"{name} does not go with --slurm; leave it out")


def _slurm() -> ModuleType:
    try:
        from genlab.sweep import slurm
    except ModuleNotFoundError:
        raise UsageError("--slurm needs the package submitit: pip install 'genlab[slurm]'") from None
    return slurm


def _ray_options(options: argparse.Namespace) -> "RayOptions | None":
    """Returns how to use a Ray cluster; None without --ray.

    Raises:
        UsageError: Options exclude each other.
    """
    from genlab.sweep.fleet import RayOptions

    only_with = {"--cpus-per-run": options.cpus_per_run, "--gpus-per-run": options.gpus_per_run, "--send": options.send}
    if options.ray is None:
        if given := [name for name, value in only_with.items() if value not in (None, [])]:
            raise UsageError(f"{given[0]} is for runs on a Ray cluster; add --ray auto, or leave it out")
        return None
    if options.devices:
        raise UsageError("--devices is for this machine; with --ray, give the GPUs of a run by --gpus-per-run")
    cpus = 1.0 if options.cpus_per_run is None else options.cpus_per_run
    return RayOptions(options.ray, cpus, options.gpus_per_run, tuple(options.send))


def agent(options: argparse.Namespace) -> int:
    """Run a W&B sweep as its agent, as `wandb agent` does, with one process for all runs, or as agents on Ray."""
    from genlab.sweep.agent import run_agent

    if options.slurm is not None:
        _require_alone(options)
        _slurm().submit_agents(options.sweep, options.slurm, options.workers or 1, options.root)
        return 0
    if options.workers is not None and options.ray is None:
        raise UsageError("--workers is for a cluster; add --ray or --slurm, or start the command several times")
    result = run_agent(options.sweep, options.count, options.devices or None, _ray_options(options), options.workers)
    print(f"{counted(result.finished, 'run')} finished, {result.failed} failed")
    if result.signal is not None:
        return 128 + result.signal
    return 1 if result.failed else 0


def report(options: argparse.Namespace) -> int:
    """Draw the charts of experiments on one HTML page, with tables and PNG files beside it."""
    from genlab.report.writer import write_report_files

    if not options.folders and not options.wandb:
        raise UsageError("name a folder, such as runs/quickstart, or a W&B sweep by --wandb ENTITY/PROJECT/ID")
    for folder in options.folders:
        _draw(folder, options.include_early)
    if options.wandb:
        from genlab.report.wandb_records import load_wandb_sweep

        folder = Path(options.root) / "wandb" / options.wandb.replace("/", "_")
        data = load_wandb_sweep(options.wandb, folder / "pictures", options.include_early)
        _list(folder, write_report_files(data, folder / "report"))
    return 0


def compare(options: argparse.Namespace) -> int:
    """Compare runs of several experiments in one table: seeds folded, and only metrics that mean the same."""
    from genlab.report.compare import comparison, output, rendering
    from genlab.report.compare.page_media import read_logged
    from genlab.report.compare.quantities import choose_chart
    from genlab.report.compare.runs import read_folders

    if not options.folders and not options.wandb:
        raise UsageError("name folders, such as runs/vae_mnist runs/gan_mnist, or --wandb ENTITY/PROJECT")
    named = ("colour", "facet", "pareto", "better")
    more = {name: getattr(options, name) for name in named if getattr(options, name)}
    output.check_outputs(options.output, options.metric, options.x, [f"--{name}" for name in more])
    own = [Path(options.baseline)] if options.baseline and (Path(options.baseline) / "summary.json").is_file() else []
    runs = read_folders([*options.folders, *own])
    for path in options.wandb:
        from genlab.report.compare.wandb_runs import read_wandb

        runs += read_wandb(path)
    names = ("rows", "columns", "baseline", "where", "include_early")
    asked = {name: getattr(options, name) for name in names}
    tables = comparison.compare(runs, comparison.Question(metrics=options.metric, **asked))
    chart = choose_chart(tables, options.x, **more) if options.x else None
    pages = [path for path in options.output if path.suffix == ".html"]
    compared = [run for row in tables[0].rows for c in row.configurations for run in c.runs]
    logged = read_logged(compared, options.embed_pictures, Path(options.root)) if pages else None
    print(rendering.as_text(tables, rendering.screen_width()))
    for path in options.output:
        output.write_output(tables, path, chart, logged)
        print(f"written: {path}")
    if logged and any(logged.pictures.values()) and not logged.embed:
        print("The pictures of the page are links to files of this machine; --embed-pictures puts them into the page.")
    return 0


def board(options: argparse.Namespace) -> int:
    """Save the charts of the report as a workspace of a W&B project, or a workspace that compares its experiments."""
    if options.compare is None:
        from genlab.report.board import save_board

        print(save_board(options.project, options.name))
        return 0
    from genlab.report.comparison_board import save_comparison

    url, left_out = save_comparison(options.project, options.compare, options.name)
    for line in left_out:
        print(line, file=sys.stderr)
    print(url)
    return 0


def sync(options: argparse.Namespace) -> int:
    """Send the runs of a sweep that were logged offline to W&B, each of them once."""
    from genlab.sweep.sync import sync as send

    status = False
    for folder in options.folders:
        status |= bool(send(folder, project=options.project, entity=options.entity).failed)
    return int(status)


def _draw(folder: Path, include_early: bool = False) -> None:
    from genlab.report.writer import write_report

    _list(folder, write_report(folder, include_early=include_early))


def _list(folder: Path, files: list[Path]) -> None:
    print(f"tables and charts of {folder}:")
    for path in files:
        print(f"  {path}")


def parser(prog: str = "sweep.py") -> Parser:
    description = "Runs, reports and sends sweeps, with or without a W&B server."
    examples = EXAMPLES.replace("PROG", prog if " " in prog else f"python {prog}")
    top = Parser(prog, description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.dashed = "--slurm"
    commands = top.add_subparsers(
        required=True, metavar="run | agent | report | compare | board | sync", title="commands"
    )

    def command(function: object, name: str) -> Parser:
        text = " ".join((function.__doc__ or "").split())
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=function)
        return made

    _add_run(command(run, "run"))
    two = command(agent, "agent")
    two.add_argument("sweep", metavar="ENTITY/PROJECT/ID", help="The sweep, as `wandb sweep` prints its name.")
    two.add_argument("--count", type=positive, metavar="N", help="Do at most N runs (default: all).")
    two.add_argument("--devices", default="", metavar="0,1", help="GPUs that the runs may use (default: all).")
    two.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="Agents on the cluster (default: one on Slurm, as many as fit on Ray).",
    )
    _add_ray(two)
    _add_slurm(two)
    two.add_argument(
        "--root", default="runs", metavar="DIR", help="Where the output of the jobs of --slurm goes (default: runs)."
    )

    three = command(report, "report")
    three.add_argument(
        "folders", type=Path, nargs="*", metavar="DIR", help="Folders of experiments, such as runs/quickstart."
    )
    three.add_argument("--wandb", metavar="ENTITY/PROJECT/ID", help="A sweep on W&B instead of a folder.")
    three.add_argument(
        "--root", default="runs", metavar="DIR", help="Where the report of a W&B sweep goes (default: runs)."
    )
    three.add_argument(
        "--include-early",
        action="store_true",
        help="Let the runs that early_terminate ended count in means, importance and charts (default: they are listed "
        "only).",
    )

    _add_compare(command(compare, "compare"))

    four = command(board, "board")
    four.add_argument("project", metavar="ENTITY/PROJECT", help="The project on W&B.")
    four.add_argument(
        "--compare",
        nargs="*",
        metavar="EXPERIMENT",
        help="Save a second workspace, which compares the named experiments (groups of runs on W&B), or all of them: "
        "by the metrics that compare, against parameters and seconds, with their learning curves and pictures.",
    )
    four.add_argument(
        "--name",
        help="Name of the workspace (default: genlab, or genlab comparison and the experiments that are named). In one "
        "that exists, the charts are replaced; filters, colors and settings stay.",
    )

    five = command(sync, "sync")
    five.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="Folders of sweeps, such as runs/quickstart."
    )
    five.add_argument("--project", help="Project on W&B (default: the one that the runs name).")
    five.add_argument("--entity", help="Entity on W&B (default: that of the API key).")
    return top


def _workers(text: str) -> int | str:
    """A whole number above 0, or auto.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if text == "auto":
        return text
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor auto") from None


def _add_run(one: Parser) -> None:
    one.add_argument("file", help="A W&B sweep definition: a file, or the name of one that comes with genlab.")
    one.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="Runs at a time (default: 1, or one for each device). auto begins so, measures the runs, and adds workers "
        "while memory, cores and GPUs are free and runs wait.",
    )
    one.add_argument("--devices", default="", metavar="0,1", help="GPUs to share out among the workers.")
    _add_ray(one)
    _add_slurm(one)
    one.add_argument("--detach", action="store_true", help="With --slurm, return as soon as the jobs are submitted.")
    one.add_argument(
        "--storage",
        metavar="URL",
        help="Where the queue is: sqlite:///FILE for one machine; for several machines, journal:///FILE in a folder "
        "that they share, or postgresql://USER:PASSWORD@HOST/NAME (default: sqlite, sweep.db in the sweep's folder).",
    )
    one.add_argument("--count", type=positive, metavar="N", help="Do at most N runs (default: all).")
    one.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE...]",
        help="Set or add the values of a parameter, such as seed_everything=0,1,2 or data.root=/data; may be repeated.",
    )
    one.add_argument(
        "--repeats",
        type=positive,
        metavar="N",
        help="Run each point N times, with the seeds 0 to N - 1 (default: as the file says).",
    )
    one.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="Draw the charts at the end (default)."
    )
    one.add_argument("--retry", action="store_true", help="Repeat failed runs.")
    one.add_argument(
        "--grace",
        type=positive,
        default=60,
        metavar="SECONDS",
        help="Give a run to another machine when its own has been silent for this long. All machines need the same "
        "value (default: 60).",
    )
    one.add_argument(
        "--tries",
        type=positive,
        default=3,
        metavar="N",
        help="Count a run as failed when its process has died N times (default: 3).",
    )
    one.add_argument("--root", default="runs", metavar="DIR", help="Folder of all runs (default: runs).")


def _add_ray(one: Parser) -> None:
    one.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="Execute the runs on a Ray cluster: HOST:PORT, ray://HOST:PORT, or auto for the cluster of this machine, "
        "which starts one here if there is none. --workers is then the maximum (default: as many as fit). Needs "
        "pip install 'genlab[ray]'.",
    )
    one.add_argument("--cpus-per-run", type=share, metavar="N", help="CPUs of a run on Ray (default: 1).")
    one.add_argument(
        "--gpus-per-run",
        type=share,
        metavar="N",
        help="GPUs of a run on Ray; 0.25 lets four runs share one (default: 1 if the cluster has any GPU, else 0).",
    )
    one.add_argument(
        "--send",
        action="append",
        default=[],
        metavar="PATH",
        help="Send this file or folder once to each Ray node that does not share this file system; may be repeated. "
        "The code, the folder of data up to 4 GiB, and files that the runs' arguments name are sent without it.",
    )


def _add_slurm(one: Parser) -> None:
    one.add_argument(
        "--slurm",
        metavar="OPTIONS",
        help="Submit an array of --workers jobs to Slurm with these options of sbatch, such as '--partition=gpu "
        "--gres=gpu:1 --time=4:00:00'. Each job executes one run after the other, or as many at a time as it has GPUs, "
        "and is queued again when its time is over or it is preempted. All nodes must see this folder. Needs pip "
        "install 'genlab[slurm]'.",
    )


def _add_compare(one: Parser) -> None:
    one.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="Folders of experiments or of single runs, such as runs/vae_mnist runs/gan_mnist/default.",
    )
    one.add_argument(
        "--wandb",
        action="append",
        default=[],
        metavar="ENTITY/PROJECT[/SWEEP]",
        help="Runs on W&B, besides those of folders; may be repeated.",
    )
    one.add_argument(
        "--root",
        default="runs",
        metavar="DIR",
        help="Where copies of the pictures of W&B's runs go, in wandb/ (default: runs).",
    )
    one.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="Metric to show, such as test/mse; may be repeated (default: all test metrics by which the runs compare).",
    )
    one.add_argument(
        "--rows",
        metavar="KEY",
        help="A row for each value of this config key, such as model (default: a row for each configuration).",
    )
    one.add_argument(
        "--columns", metavar="KEY", help="A column for each value of this config key, such as data; needs --metric."
    )
    one.add_argument(
        "--baseline",
        metavar="RUN",
        help="Show differences to the configuration of this run: a run folder, EXPERIMENT/RUN, or the name of the run.",
    )
    one.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="Compare only these runs: model=VAE, or 'model.optimizer.lr>0.001' with = != < <= > >=; may be repeated.",
    )
    one.add_argument(
        "--include-early",
        action="store_true",
        help="Compare the runs that early_terminate ended, too (default: they are left out).",
    )
    one.add_argument(
        "--embed-pictures",
        action="store_true",
        help="Put the pictures of the runs into the page, so that it can be sent to others (default: they are linked).",
    )
    one.add_argument(
        "--x",
        metavar="KEY",
        help="Draw a scatter chart of the metric against seconds, parameters, images/s, a config key or a metric; "
        "needs --output chart.png, .svg or .html.",
    )
    one.add_argument(
        "--colour",
        "--color",
        metavar="KEY",
        help="Color the points of the scatter chart by this config key, recorded value or metric.",
    )
    one.add_argument("--facet", metavar="KEY", help="A panel of the scatter chart for each value of this key.")
    one.add_argument("--pareto", action="store_true", help="Draw the Pareto front of the scatter chart.")
    one.add_argument(
        "--better",
        action="append",
        default=[],
        metavar="NAME=lower",
        help="The better direction, lower or higher, of a number for which it is not known, for --pareto.",
    )
    one.add_argument(
        "--output",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="Also write the table to FILE.html, .csv, .md or .tex, or the one metric as a chart to .png or .svg; may "
        "be repeated.",
    )


def main(args: list[str] | None = None, prog: str = "sweep.py") -> int:
    options = parser(prog).parse_args(args)
    find_in_current_folder()
    try:
        return options.command(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `sweep.py ... | head`
        discard_output()
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
