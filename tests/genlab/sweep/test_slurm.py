"""`sweep.py run --slurm`: with commands that stand for those of Slurm, and where it is installed with Slurm itself."""

import signal
from pathlib import Path

import pytest

import sweep
from tests.genlab.sweep.test_engine import (
    assert_each_ran_once,
    calls,
    run,
    sweep_folder,
    wait_for_call,
    write_sweep,
)
from tests.slurm import FakeSlurm

pytest.importorskip("submitit")
from submitit.core.utils import DelayedSubmission

from genlab.sweep import slurm


@pytest.fixture
def fake(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.setattr(slurm, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(slurm, "JOBS_SECONDS", 0.2)
    return FakeSlurm(tmp_path_factory.mktemp("slurm"), monkeypatch)


def test_a_sweep_in_jobs(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Jobs that are refused, fail, wait, are watched again and are preempted; each run is executed once."""
    path = write_sweep(tmp_path, "model.x: {values: [1, 2, 3, 4]}, seconds: {value: 1.0}")
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
    asked = "-p gpu --nodes=1 --cpus-per-task 2 --gres=gpu:1 --time=0:10 --job-name=mine --exclusive"
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
    wait_for_call(path, "begin", times=2)
    fake.send("12_0", signal.SIGTERM)
    fake.send("12_1", signal.SIGUSR2)
    assert run(path, "--slurm", "", "--workers=3", "--no-report") == 0
    output = capsys.readouterr().out
    assert output.count("test/loss") == 4 and "trivial: 4 runs finished" in output, output
    assert (fake.folder / "cancelled").read_text() == "--state=PENDING 11_0\n"
    assert_each_ran_once(path, [f"x={x}" for x in (1, 2, 3, 4)])
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
