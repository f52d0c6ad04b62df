"""The offline engine with a trivial program: whichever process is killed, each run is executed once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import sweep
from genlab.runs.folder import read_summary, write_summary
from genlab.sweep.worker import Worker
from tests import HANG_SECONDS, wait_for
from tests.postgres import cluster, programs

PROGRAM = Path(__file__).parents[2] / "programs" / "trivial.py"
ROOT = Path(__file__).parents[3]


def write_sweep(folder: Path, parameters: str, **changes: str) -> Path:
    head = {"name": "trivial", "program": str(PROGRAM), "method": "grid", "metric": "{name: test/loss, goal: minimize}"}
    head |= {"parameters": f"{{{parameters}}}", "command": '["${program}", "${args}"]'} | changes
    path = folder / f"{head['name']}.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in head.items()))
    return path


def run(path: Path, *options: str) -> int:
    return sweep.main(["run", str(path), f"--root={path.parent / 'runs'}", *options])


def start(path: Path, *options: str, **how: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "sweep.py"), "run", str(path), f"--root={path.parent / 'runs'}", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, **pipes | how)  # type: ignore[call-overload]


def sweep_folder(path: Path) -> Path:
    return path.parent / "runs" / path.stem


def finished(path: Path) -> list[str]:
    folders = sweep_folder(path).glob("*/summary.json")
    return sorted(f.parent.name for f in folders if read_summary(f.parent)["state"] == "finished")


def calls(path: Path) -> Counter[tuple[str, str]]:
    lines = (sweep_folder(path) / "calls.txt").read_text().split("\n")[:-1]
    return Counter((what, name) for what, _, name in (line.split(" ", 2) for line in lines))


def wait_for_call(path: Path, text: str, times: int = 1) -> None:
    file = sweep_folder(path) / "calls.txt"
    wait_for(lambda: file.exists() and file.read_text().count(text) >= times, f"no {text} in {file}")


def assert_each_ran_once(path: Path, names: list[str]) -> None:
    assert finished(path) == sorted(names)
    seen = calls(path)
    assert {name: seen["end", name] for name in names} == dict.fromkeys(names, 1)
    assert not [name for what, name in seen if what == "again"]


def test_a_sweep_runs_continues_and_keeps_finished_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_sweep(tmp_path, "model.x: {values: [1, 2, 3]}, model.y: {values: [1, 2]}")
    assert run(path, "--workers=2", "--count=4") == 0
    assert "4 runs finished" in capsys.readouterr().out
    assert run(path) == 0
    output = capsys.readouterr().out
    assert "4 runs finished before" in output and "trivial: 2 runs finished" in output
    assert_each_ran_once(path, [f"x={x},y={y}" for x in (1, 2, 3) for y in (1, 2)])
    folder = sweep_folder(path)
    assert (folder / "report" / "index.html").is_file() and (folder / "sweep.yaml").is_file()

    (folder / "sweep.db").unlink()  # the queue is lost, the runs are not
    assert run(path) == 0
    assert "0 runs finished, 6 kept from before" in capsys.readouterr().out
    assert_each_ran_once(path, [f"x={x},y={y}" for x in (1, 2, 3) for y in (1, 2)])


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_sweep(tmp_path, "model.x: {values: [1, 2, 3]}, fail: {value: 2}")
    assert run(path) == 1
    output = capsys.readouterr().out
    assert "2 runs finished, 1 failed" in output and "UsageError: x is not allowed" in output
    log = sweep_folder(path) / "logs" / "x=2.txt"
    assert "Traceback" in log.read_text() and "x is not allowed" in log.read_text()
    assert run(path) == 1 and "0 runs finished" in capsys.readouterr().out
    assert run(path, "--retry") == 1 and "0 runs finished, 1 failed" in capsys.readouterr().out


def test_a_run_that_kills_its_process_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_sweep(tmp_path, "model.x: {values: [1, 2, 3]}, die: {value: 2}")
    assert run(path, "--workers=2") == 1
    output = capsys.readouterr().out
    assert "2 runs finished, 1 failed" in output and "SIGKILL, 3 times" in output
    assert finished(path) == ["x=1", "x=3"]


def test_a_process_that_dies_before_its_run_counts_as_a_crash_of_the_run(tmp_path: Path):
    """It is asked for the options of a run that is there already."""
    (tmp_path / "dies.py").write_text(
        "import os\n\ndef main(args, report): ...\n\ndef differing_options(args, recorded): os.kill(os.getpid(), 9)\n"
    )
    path = write_sweep(tmp_path, "model.x: {values: [1]}", program=str(tmp_path / "dies.py"))
    (sweep_folder(path) / "x=1").mkdir(parents=True)
    write_summary(sweep_folder(path) / "x=1", {})
    assert run(path, "--tries=1", "--no-report") == 1


def test_ctrl_c_once_finishes_the_current_run(tmp_path: Path):
    path = write_sweep(tmp_path, "model.x: {values: [1, 2, 3]}, seconds: {value: 1.0}")
    process = start(path)
    wait_for_call(path, "begin")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130, output
    assert "finishing the current runs" in output and "the same command goes on" in output
    assert finished(path) == ["x=1"]


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_stopped_runs_resume_from_their_checkpoint(numbers: tuple[int, ...], tmp_path: Path):
    path = write_sweep(tmp_path, "model.x: {values: [1, 2]}, hang: {value: 1}")
    process = start(path)
    wait_for_call(path, "begin")
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.3)
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == (130 if len(numbers) == 2 else 143), output
    assert read_summary(sweep_folder(path) / "x=1")["state"] == "killed"
    process = start(path, "--count=1")
    wait_for_call(path, "begin", times=2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANG_SECONDS)
    seen = calls(path)
    assert seen["begin", "x=1"] == 2 and seen["resume-in-x=1", "x=1"] == 1 and seen["begin", "x=2"] == 0


def test_runs_of_equal_points_resume_in_their_own_folders(tmp_path: Path):
    parameters = "model.x: {values: [1]}, seconds: {value: 2.0}"
    path = write_sweep(tmp_path, parameters, method="random", run_cap="2")
    process = start(path, "--workers=2")
    wait_for_call(path, "begin", times=2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANG_SECONDS)
    assert run(path, "--workers=2") == 0
    seen = calls(path)
    assert seen["resume-in-x=1", "x=1"] == 1 and seen["resume-in-x=1-2", "x=1-2"] == 1
    assert finished(path) == ["x=1", "x=1-2"]


def test_a_run_that_ignores_sigterm_is_killed(tmp_path: Path):
    path = write_sweep(tmp_path, "model.x: {values: [1]}, deaf: {value: 1}")
    process = start(path)
    wait_for_call(path, "begin")
    time.sleep(0.5)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output


def test_a_run_with_other_options_is_kept_and_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """After the queue was deleted, as the message says: kept runs are those of the new points, and none runs twice."""

    def again(parameters: str, **changes: str) -> str:
        (sweep_folder(path) / "sweep.db").unlink(missing_ok=True)
        assert run(write_sweep(tmp_path, parameters, **changes), "--no-report") == 0
        return capsys.readouterr().out

    path = tmp_path / "trivial.yaml"
    again("model.x: {values: [1, 2]}, seconds: {value: 0}")
    before = read_summary(sweep_folder(path) / "x=1")
    output = again("model.x: {values: [1, 2]}, seconds: {value: 0.01}")
    assert "x=1 is kept and not counted, as the run there has other options (seconds); this run is x=1-2" in output
    assert "2 runs finished" in output and "kept from before" not in output
    assert finished(path) == ["x=1", "x=1-2", "x=2", "x=2-2"] and read_summary(sweep_folder(path) / "x=1") == before
    output = again("model.x: {values: [3, 1]}, seconds: {values: [0.010, 0]}", command='["${program}", "${args}"]')
    assert "2 runs finished, 2 kept" in output  # the swept key is in the new names, and not in those of older runs
    assert finished(path) == ["seconds=0,x=3", "seconds=0.01,x=3", "x=1", "x=1-2", "x=2", "x=2-2"]
    constant = '["${program}", "--seconds=0", "${args}"]'
    assert "0 runs finished, 1 kept" in again("model.x: {values: [2]}", command=constant)
    again("model.x: {values: [5, 6]}, model.y: {value: 1}", command=constant)
    more = again("model.x: {values: [5, 6]}, model.y: {values: [1, 2]}", command=constant)
    assert "2 runs finished, 2 kept" in more and {"x=5", "x=5,y=2"} < {*finished(path)}  # y was the same in all runs
    assert "1 run finished\n" in again("model.x: {values: [2]}, seed_everything: {value: 1}", command=constant)
    assert not [name for what, name in calls(path) if what == "again"]


def test_another_program_needs_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_sweep(tmp_path, "model.x: {values: [1]}")
    assert run(path, "--no-report") == 0
    other = tmp_path / "other.py"
    other.write_text(PROGRAM.read_text())
    for queue in (True, False):
        if not queue:
            (sweep_folder(path) / "sweep.db").unlink()
        assert run(write_sweep(tmp_path, "model.x: {values: [1]}", program=str(other)), "--no-report") == 2
        error = capsys.readouterr().err
        assert "give this" in error and "another name and --run.experiment" in error and "rm " not in error


def test_a_dropped_run_does_not_count_as_crashed(tmp_path: Path):
    worker = Worker(PROGRAM)
    threading.Timer(1.5, worker.drop_run).start()
    args = [f"--run.root={tmp_path}", "--run.experiment=trivial", "--model.x=1"]
    (tmp_path / "trivial").mkdir()
    assert worker.run([*args, "--hang=1"], tmp_path / "log.txt").state == "stopped"
    crashed = worker.run([*args, "--die=1"], tmp_path / "log.txt")
    assert (crashed.state, crashed.error) == ("crashed", "its process was killed by SIGKILL")
    assert worker.run([*args], tmp_path / "log.txt").state == "finished"
    worker.close()


def test_a_killed_sweep_ends_its_workers_and_can_be_continued(tmp_path: Path):
    path = write_sweep(tmp_path, "model.x: {values: [1, 2, 3, 4]}, seconds: {value: 1.0}")
    process = start(path, "--workers=2")
    wait_for_call(path, "x=2")
    process.kill()
    process.communicate(timeout=HANG_SECONDS)
    assert run(path, "--workers=2") == 0
    assert_each_ran_once(path, [f"x={x}" for x in (1, 2, 3, 4)])
    assert calls(path)["begin", "x=1"] == 2  # it was stopped when its parent died, and started again


def test_two_working_folders_and_one_storage(tmp_path: Path, postgres: str):
    """Like two machines of a cluster."""
    folders = [tmp_path / name for name in ("one", "two")]
    paths = []
    for folder in folders:
        folder.mkdir()
        paths.append(
            write_sweep(folder, "model.x: {distribution: int_uniform, min: 1, max: 20}, seconds: {value: 0.1}")
        )
    processes = [start(path, f"--storage={postgres}", cwd=path.parent) for path in paths]
    outputs = [process.communicate(timeout=HANG_SECONDS)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    done = [finished(path) for path in paths]
    assert sorted(done[0] + done[1]) == sorted(f"x={x}" for x in range(1, 21))
    assert min(map(len, done)) >= 1


@pytest.mark.skipif(programs() is None, reason="PostgreSQL (initdb, pg_ctl) is not installed")
@pytest.mark.slow
def test_the_engine_waits_for_a_database_that_does_not_answer(tmp_path: Path):
    path = write_sweep(tmp_path, "model.x: {values: [1, 2, 3, 4]}, seconds: {value: 2.0}")
    with cluster() as database:
        process = start(path, "--workers=2", f"--storage={database.url}", "--grace=6")
        wait_for_call(path, "begin", times=2)
        database.stop()
        time.sleep(4)
        database.start()
        output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, output
    assert "does not answer" in output and "4 runs finished" in output
    assert_each_ran_once(path, [f"x={x}" for x in (1, 2, 3, 4)])


def run_with_kills(path: Path, runs: int, workers: int, parents: int, kills: int, *options: str) -> None:
    """Executes a sweep with several processes, while random workers and one whole process are killed."""
    output: list[str] = []

    def begin() -> subprocess.Popen[str]:
        process = start(path, f"--workers={workers // parents}", *options)
        threading.Thread(target=output.extend, args=(process.stdout,), daemon=True).start()
        return process

    random.seed(0)
    running = [begin()]
    wait_for_call(path, "begin")  # a sweep does not start if its workers die during the check before its first run
    running += [begin() for _ in range(parents - 1)]
    killed = 0
    while any(process.poll() is None for process in running):
        time.sleep(random.uniform(0.05, 0.25))
        if killed < kills and (victims := children(running)):
            os.kill(random.choice(victims), signal.SIGKILL)
            killed += 1
        if killed == kills // 2 and parents > 1:
            running[0].kill()
            running[0] = begin()
            killed += 1
    assert killed >= kills, f"only {killed} were killed"
    assert [process.wait() for process in running] == [0] * parents, output
    names = [f"x={x},y={y}" for x in range(runs // 10) for y in range(10)]
    assert finished(path) == sorted(names)
    assert not [name for what, name in calls(path) if what == "again"]


def children(processes: list[subprocess.Popen[str]]) -> list[int]:
    """Returns the ids of the worker processes."""
    found = []
    for process in processes:
        for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
            try:
                found += [int(pid) for pid in task.read_text().split()]
            except OSError:
                continue
    return found


@pytest.mark.parametrize("storage", ["sqlite", "journal", pytest.param("postgresql", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("runs", "workers", "kills"),
    [(30, 4, 3), pytest.param(500, 8, 50, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_random_kills(
    runs: int, workers: int, kills: int, storage: str, tmp_path: Path, request: pytest.FixtureRequest
):
    """Kills a worker for every tenth run at random moments, and half-way one of two processes with all its workers."""
    count = f"{{distribution: int_uniform, min: 0, max: {runs // 10 - 1}}}"
    parameters = f"model.x: {count}, model.y: {{values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}}, seconds: {{value: 0.1}}"
    path = write_sweep(tmp_path, parameters, name=f"{storage}{runs}")
    url = request.getfixturevalue("postgres") if storage == "postgresql" else f"{storage}:///{tmp_path}/queue"
    run_with_kills(path, runs, workers, 2, kills, "--tries=20", f"--storage={url}")


def test_early_termination(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_sweep(
        tmp_path,
        "model.x: {values: [3, 4, 9]}, epochs: {value: 8}",
        metric="{name: val/loss, goal: minimize}",
        early_terminate="{type: hyperband, min_iter: 2, eta: 2}",
    )
    assert run(path) == 0
    stopped = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "ended early" in line]
    assert stopped == ["x=9"]


def test_a_sweep_that_does_not_fit_the_program_is_an_error_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    parameters = "\n  model.x: {values: [1]}\n  model.z: {values: [1, 2]}\n  w: {value: 3}"
    path = write_sweep(tmp_path, "}")
    path.write_text(path.read_text().replace("parameters: {}}", f"parameters: {parameters}"))
    assert run(path) == 2
    error = capsys.readouterr().err
    assert "trivial.yaml has 2 errors:" in error
    assert "line 7: model.z: unrecognized arguments" in error and "line 8: w: unrecognized" in error
    more = {"metric": "{name: test/los, goal: minimise}", "command": '["${program}", --x=1, "${argz}", "${args}"]'}
    path = write_sweep(tmp_path, "model.x: {values: []}, w: {value: 3}", **more)
    assert run(path) == 2
    error = capsys.readouterr().err
    assert "trivial.yaml has 5 errors:" in error and "goal minimise is neither" in error and "w: unrecogn" in error
    assert "model.x: values is empty" in error and "${argz} is not known" in error
    assert "line 4: the runs do not log test/los; did you mean test/loss? they log test/loss, val/loss" in error
    path = write_sweep(tmp_path, "model.x: {values: [1]}", early_terminate="{type: hyperband, min_iter: 2}")
    assert run(path) == 2
    assert "test/loss is logged only at the end of a run; each epoch logs val/loss" in capsys.readouterr().err
    path = write_sweep(tmp_path, "w: {min: 0.0, max: 1.0}", method="random")
    assert run(path) == 2
    error = capsys.readouterr().err
    assert "a random search has no end; give run_cap here, or --count" in error and "w: unrecognized" in error
    path = write_sweep(tmp_path, "model.x: {value: x y}, w: {values: []}", program="none.py", command="[fit]")
    assert run(path) == 2
    error = capsys.readouterr().err
    assert "has 4 errors" in error and "line 2: there is no program none.py" in error and "no ${program}" in error
    assert not (tmp_path / "runs").exists()


def test_a_first_run_that_exits_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """At this time there is no log yet."""
    logged = "def logged(args):\n    print('error: no such file')\n    raise SystemExit(2)\n"
    (tmp_path / "exits.py").write_text(f"def main(args, report): ...\n\n{logged}")
    assert run(write_sweep(tmp_path, "model.x: {values: [1]}", program=str(tmp_path / "exits.py"))) == 2
    assert "its first run cannot start: it exited with status 2; no such file" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_devices_that_do_not_exist_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "counts.py").write_text(
        "import sys, types\n\ndef main(args, report): ...\n\n"
        "sys.modules['torch'] = types.SimpleNamespace(cuda=types.SimpleNamespace(device_count=lambda: 0))\n"
    )
    path = write_sweep(tmp_path, "model.x: {values: [1]}", program=str(tmp_path / "counts.py"))
    assert run(path, "--devices=7") == 2
    assert "error: --devices 7: PyTorch sees 0 of these GPUs" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_program_that_cannot_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    path = write_sweep(tmp_path, "model.x: {values: [1]}", program=str(tmp_path / "broken.py"))
    assert run(path) == 2
    assert "nothing_of_this_name" in capsys.readouterr().err
