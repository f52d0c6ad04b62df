"""`sweep.py run --slurm`: with commands that stand for those of Slurm, and where it is installed with Slurm itself."""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import sweep
from tests import HANG_SECONDS, wait_for
from tests.genlab.sweep.test_engine import (
    assert_each_ran_once,
    calls,
    run,
    start,
    sweep_folder,
    wait_for_call,
    write_sweep,
)
from tests.slurm import NEEDS_SLURM, FakeSlurm, start_slurm
from tests.slurm import slurm as slurm_command

pytest.importorskip("submitit")
from submitit.core.utils import DelayedSubmission

from genlab.sweep import slurm


@pytest.fixture
def fake(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeSlurm]:
    """The commands. The jobs end before the folder of the test is removed."""
    monkeypatch.setattr(slurm, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(slurm, "JOBS_SECONDS", 0.2)
    made = FakeSlurm(tmp_path_factory.mktemp("slurm"), monkeypatch)
    yield made
    wait_for(lambda: not any(made.jobs().values()), "jobs still run")


def test_a_sweep_in_jobs(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Jobs that are refused, fail, wait, are watched again and are preempted; each run is executed once."""
    path = write_sweep(tmp_path, "model.x: {values: [1, 2]}, model.y: {values: [1, 2]}, pause: {value: 1}")
    files = sweep_folder(path) / "slurm"
    assert run(path, "--slurm", "--partition=closed", "--workers=2") == 2
    assert capsys.readouterr().err == (
        "error: --slurm: the jobs are not accepted (invalid partition specified: closed)\n"
    )
    assert not files.exists()

    assert run(path, "--slurm", "--partition=broken", "--workers=2") == 1
    message = f"all jobs have ended, with 4 runs left; the same command submits new jobs; {files}/10_"
    error = capsys.readouterr().err
    assert message in error and "ends with: no GPU" in error, error

    assert run(path, "--slurm", "-p full", "--workers=1", "--detach") == 0
    assert "Slurm: 0 jobs run, 1 wait (Priority). `scancel 11` stops them" in capsys.readouterr().out
    asked = "-p gpu --nodes=1 --cpus-per-task 2 --gres=gpu:2 --time=0:10 --job-name=mine --exclusive"
    assert run(path, "--slurm", asked, "--workers=3", "--detach", "--tries=5") == 0
    assert "`scancel 11 12` stops them" in capsys.readouterr().out
    lines = fake.script(12).splitlines()
    own = ["array=0-1%2", "signal=USR2@2", "requeue", "exclusive", "cpus-per-task=2", "job-name=mine", "partition=gpu"]
    assert {f"#SBATCH --{option}" for option in own} <= set(lines), lines
    assert any(line.startswith("srun ") and "--cpus-per-task=2" in line for line in lines)

    with monkeypatch.context() as patch:
        patch.setattr(slurm.Watcher, "_wait", lambda watcher, received: received.append(signal.SIGINT))
        assert run(path, "--slurm", "", "--workers=3") == 130
    assert "`scancel 11 12` stops them" in capsys.readouterr().out
    wait_for_call(path, "pause", times=2)
    fake.send("12_0", signal.SIGTERM)
    fake.send("12_1", signal.SIGUSR2)
    assert run(path, "--slurm", "", "--workers=3", "--no-report") == 0
    output = capsys.readouterr().out
    assert "x=1,y=1  test/loss 4" in output and "x=1,y=2  test/loss 4" in output, output
    assert (fake.folder / "cancelled").read_text() == "--state=PENDING 11_0\n"
    assert_each_ran_once(path, [f"x={x},y={y}" for x in (1, 2) for y in (1, 2)])
    assert sum(count for (what, _), count in calls(path).items() if what.startswith("resume")) == 2
    assert run(path, "--no-report") == 0  # the same queue, without Slurm
    assert "4 runs finished before" in capsys.readouterr().out


def test_agents_are_submitted_once(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    asked: list[str] = []
    monkeypatch.setattr("genlab.sweep.agent_server.SweepServer", asked.append)
    for workers in (2, 2, 3):
        command = ["agent", "me/genlab/abc", "--slurm", "-p full", f"--workers={workers}", f"--root={tmp_path}"]
        assert sweep.main(command) == 0
    assert asked == ["me/genlab/abc"] * 3 and list(fake.jobs()) == ["10_0", "10_1", "11_0"]
    assert f"Their output is in {tmp_path}/slurm/me_genlab_abc." in capsys.readouterr().out
    submitted = DelayedSubmission.load(tmp_path / "slurm" / "me_genlab_abc" / "10_1_submitted.pkl")
    assert submitted.function.command[-3:] == ["sweep", "agent", "me/genlab/abc"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slurm=gpu"], "--slurm: write gpu as a long option of sbatch, such as --partition=gpu"),
        (["--slurm", "-p gpu -N 2"], "--slurm: leave out -N: each job is one process, and --workers is their number"),
        (["--slurm", "--array=1-9"], "--slurm: leave out --array, which sweep.py sets itself, or cannot use"),
        (["--slurm", "-t"], "--slurm: -t needs a value"),
        (["--slurm", "--mem='4"], '--slurm "--mem=\'4": No closing quotation'),
        (["--slurm", "", "--devices=0"], "--devices does not go with --slurm"),
        (["--slurm", "", "--workers=auto"], "with --slurm, --workers is the number of jobs"),
        (["--slurm", "", "--count=3"], "--count is for one process; with --slurm, limit the whole sweep by run_cap"),
        (["--slurm", "", "--storage=sqlite:///queue.db"], "--storage: SQLite is for one machine; leave it out"),
        (["--detach"], "--detach is for jobs on a Slurm cluster"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str], message: str, fake: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = write_sweep(tmp_path, "model.x: {values: [0]}")
    assert run(path, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1, error
    assert [file.name for file in tmp_path.iterdir()] == ["trivial.yaml"]


def test_a_machine_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(write_sweep(tmp_path, "model.x: {values: [0]}"), "--slurm", "") == 2
    assert "there is no sbatch on this machine; give the command on a login node" in capsys.readouterr().err


@NEEDS_SLURM
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("partition", ["low", "grace"])
def test_preemption_and_scancel_by_slurm(partition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Jobs are requeued by hand, preempted by a partition of higher priority, and cancelled."""
    path = write_sweep(tmp_path, "model.x: {values: [0, 1, 2, 3, 4, 5]}, seconds: {value: 10.0}")
    options = ["--slurm", f"-p {partition}", "--workers=4", "--no-report", "--grace=20"]
    with start_slurm(tmp_path, monkeypatch):
        process = start(path, *options)
        wait_for_call(path, "begin", times=4)
        name = slurm_command("squeue", "--noheader", "--format=%F").split()[0]
        slurm_command("scontrol", "requeue", f"{name}_0")
        continue_job(f"{name}_0")
        wait_for_call(path, "begin", times=5)
        slurm_command("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--wrap=true", "--output=/dev/null")
        for task in range(4):
            continue_job(f"{name}_{task}")
        wait_for_call(path, "begin", times=9)
        slurm_command("scancel", name)
        assert process.wait(HANG_SECONDS) == 1
        assert "all jobs have ended" in process.stdout.read()
        process = start(path, *options)
        output, _ = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0, output
    assert_each_ran_once(path, [f"x={x}" for x in range(6)])


def continue_job(job: str) -> None:
    """Lets a job begin soon after it was requeued; Slurm waits two minutes."""
    wait_for(lambda: "JobState=PENDING" in slurm_command("scontrol", "show", "job", job), f"{job} is not requeued")
    slurm_command("scontrol", "update", f"JobId={job}", "StartTime=now+5")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills(fake: FakeSlurm, tmp_path: Path):
    """200 runs in six jobs: workers, whole jobs and nodes are killed or preempted, 60 in all."""
    parameters = "model.x: {distribution: int_uniform, min: 0, max: 19}, "
    parameters += "model.y: {values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}, seconds: {value: 1.0}"
    path = write_sweep(tmp_path, parameters)
    output: list[str] = []
    process = start(path, "--slurm", "", "--workers=6", "--no-report", "--tries=20")
    threading.Thread(target=output.extend, args=(process.stdout,), daemon=True).start()
    random.seed(0)
    wait_for_call(path, "begin", times=6)
    signals = {"submitit.core._submit": (signal.SIGTERM, signal.SIGUSR2), "genlab sweep run": (signal.SIGKILL,)}
    signals["genlab.sweep.worker"] = (signal.SIGKILL,)
    killed = 0
    while process.poll() is None:
        time.sleep(random.uniform(0.1, 0.5))
        ended = sum(count for (what, _), count in calls(path).items() if what == "end")
        program = random.choice([*signals])
        running = [pid for pid in fake.jobs().values() if pid is not None]
        victims = [pid for pid, args in descendants(running) if program in args]
        if killed < min(60, ended // 3) and victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(victims), random.choice(signals[program]))
                killed += 1
    assert process.returncode == 0 and killed == 60, output
    assert_each_ran_once(path, [f"x={x},y={y}" for x in range(20) for y in range(10)])


def descendants(pids: Collection[int]) -> list[tuple[int, str]]:
    """Returns these processes and all that they have started, with their command lines."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    found = {int(pid): args for pid, _, args in rows if int(pid) in pids}
    while new := {int(pid): args for pid, parent, args in rows if int(parent) in found and int(pid) not in found}:
        found |= new
    return [*found.items()]
