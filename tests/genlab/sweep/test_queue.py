"""The queue on SQLite, in a journal and on PostgreSQL: each point is run once, whichever process dies at any moment."""

import contextlib
import itertools
import os
import shlex
import socket
import subprocess
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import OperationalError

import genlab.sweep.database
import genlab.sweep.journal
import genlab.sweep.owner
import genlab.sweep.queue
from genlab.runs.errors import UsageError
from genlab.sweep.database import TABLES_LOCK
from genlab.sweep.definition import Definition
from genlab.sweep.journal import LinkLock, SignsOfLife
from genlab.sweep.owner import this_process
from genlab.sweep.parser import load_definition
from genlab.sweep.queue import Queue, _waiting
from genlab.sweep.search import Search
from genlab.sweep.storage import open_storage
from genlab.sweep.storage_base import CONNECTION_ERRORS, Storage
from tests import HANG_SECONDS

WRITES = ("create_new_trial", "record_heartbeat", "set_trial_state_values", "set_trial_user_attr", "set_trial_param")

DIVERGED = (float("nan"), None, float("inf"), float("-inf"))
"""What a run measures that has diverged."""


class Killed(BaseException):
    """Ends the code at this point, as SIGKILL would."""


def definition(path: Path, name: str, **changes: object) -> Definition:
    head = {"name": name, "program": "train.py", "method": "grid", "metric": "{name: test/loss, goal: minimize}"}
    head |= {"parameters": "{model.x: {values: [1, 2, 3]}, model.y: {values: [a, b]}}"} | changes
    head["command"] = '["${program}", fit, "${args}"]'
    path.write_text("".join(f"{key}: {value}\n" for key, value in head.items()))
    return load_definition(path)


def run_name(point: dict) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(point.items()))


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def open_queue(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Queue]]:
    """Opens the same queue at each call, as another process would."""
    kind = request.param
    url = f"{kind}:///{tmp_path}/my sweep.db" if kind != "postgresql" else request.getfixturevalue("postgres")
    name = request.node.name.replace(kind, "sqlite")  # random points depend on it, and not on the storage
    monkeypatch.setattr(genlab.sweep.queue, "SECONDS_BETWEEN_CHECKS", 0.0)

    storages: list[Storage] = []

    def open_queue(grace: int = 60, **changes: object) -> Queue:
        storages.append(open_storage(url, name, grace))
        path = tmp_path / f"{threading.get_ident()}.yaml"
        return Queue(definition(path, name, **changes), storages[-1], run_name)

    yield open_queue
    for storage in storages:
        storage.close()


def finish_all(queue: Queue) -> list[int]:
    done = []
    while (job := queue.claim()) is not None:
        assert queue.finish(job, float(job.number))
        done.append(job.number)
    return done


def test_a_journal_does_not_depend_on_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each process believes that it has the lock, as one that was suspended in the meantime."""
    monkeypatch.setattr(genlab.sweep.journal.LinkLock, "__enter__", lambda lock: None)
    parameters = "{model.x: {distribution: int_uniform, min: 0, max: 19}}"
    url, taken = f"journal:///{tmp_path}/queue", []

    def work(path: Path) -> None:
        storage = open_storage(url, "unlocked", 60)
        monkeypatch.setattr(storage, "retry", lambda action, *_: again(action))
        queue = Queue(definition(path, "unlocked", parameters=parameters), storage, run_name)
        while (job := queue.claim()) is not None:
            taken.append(job.number)
            assert queue.finish(job, 1.0)

    def again(action: Callable) -> object:
        while True:
            with contextlib.suppress(*CONNECTION_ERRORS):
                return action()

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, [tmp_path / f"{k}.yaml" for k in range(3)]))
    assert sorted(taken) == list(range(20))


def test_a_journal_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path: Path):
    """Its last line, by which a run was finished, is half-written, and the lock is still there."""
    url, path = f"journal:///{tmp_path}/queue", tmp_path / "queue"
    queue, other = (
        Queue(definition(tmp_path / "sweep.yaml", "torn"), open_storage(url, "torn", 60), run_name) for _ in range(2)
    )
    first = queue.claim()
    queue.finish(first, 1.0)
    os.truncate(path, path.stat().st_size - 7)
    killed = subprocess.Popen(["true"])
    killed.wait()
    (tmp_path / "queue.lock").symlink_to(f"1@{this_process().rpartition(':')[0]}:{killed.pid}")
    assert finish_all(other) == [1, 2, 3, 4, 5]
    queue = Queue(other.definition, open_storage(url, "torn", 60), run_name)
    assert queue.status().running == 1 and queue.finish(first, 1.0) and other.status().finished == 6


def test_the_lock_of_a_journal_is_broken_if_its_owner_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The owner is on another machine. It gives a sign of life every 10 seconds, and is killed after 200."""
    signs, now = SignsOfLife(tmp_path / "alive", 60), itertools.count(0, 10)
    seconds = [next(now)]

    def sleep(_: float) -> None:
        seconds[0] = next(now)
        if seconds[0] <= 200:
            os.utime(tmp_path / "alive" / "mark", ns=(seconds[0], seconds[0]))

    signs.give("mark")
    (tmp_path / "lock").symlink_to("1@mark@elsewhere:1")
    clock = types.SimpleNamespace(sleep=sleep, monotonic=lambda: seconds[0])
    monkeypatch.setattr(genlab.sweep.journal, "time", clock)
    with LinkLock(tmp_path / "lock", "own", signs):
        assert seconds[0] == 280 and "own@" in os.readlink(tmp_path / "lock")
    assert not os.path.lexists(tmp_path / "lock")


def test_each_point_is_claimed_once_in_the_order_of_wandb(open_queue):
    queue = open_queue()
    jobs = list(iter(queue.claim, None))
    assert [t.run for t in jobs] == [f"model.x={x},model.y={y}" for x in (1, 2, 3) for y in "ab"]
    assert [t.number for t in jobs] == list(range(6))
    status = queue.status()
    assert (status.running, status.finished, status.total) == (6, 0, 6)
    for job in jobs:
        queue.finish(job, float(10 - job.number))
    status = queue.status()
    assert (status.finished, status.best, status.best_run) == (6, 5.0, "model.x=3,model.y=b")
    assert open_queue().claim() is None


def test_concurrent_queues_never_claim_the_same_point(open_queue):
    open_queue(parameters="{model.x: {distribution: int_uniform, min: 0, max: 59}}")
    taken: list[int] = []

    def work() -> None:
        taken.extend(finish_all(open_queue(parameters="{model.x: {distribution: int_uniform, min: 0, max: 59}}")))

    with ThreadPoolExecutor() as pool:
        for worker in [pool.submit(work) for _ in range(4)]:
            worker.result()
    assert sorted(taken) == list(range(60))


def test_a_kill_before_any_write_loses_no_run(open_queue, monkeypatch: pytest.MonkeyPatch):
    """A process that dies before any of its writes (claim, finish, requeue) loses no run and repeats none."""
    monkeypatch.setattr(genlab.sweep.queue, "is_gone", lambda owner: True)  # the process of each running run has died
    done: Counter[int] = Counter()

    def run_until_killed(kill_at: int) -> bool:
        """Executes runs; returns whether the process survived."""
        queue = open_queue()
        writes = itertools.count()

        def killable(write: Callable) -> Callable:
            def called(*args: object, **kwargs: object) -> object:
                if next(writes) == kill_at:
                    raise Killed
                return write(*args, **kwargs)

            return called

        with monkeypatch.context() as fragile:
            for name in WRITES:
                for storage in {queue.storage.optuna, queue._optuna}:
                    if hasattr(storage, name) and (storage is queue._optuna or name == "record_heartbeat"):
                        fragile.setattr(storage, name, killable(getattr(storage, name)))
            try:
                for turn in itertools.count():
                    job = queue.claim()
                    if job is None:
                        return True
                    if turn % 3 == 1:
                        queue.requeue(job)
                    elif queue.finish(job, 1.0):
                        done[job.number] += 1
            except Killed:
                return False
            finally:
                queue.storage.close()

    survived = [run_until_killed(kill_at) for kill_at in range(40)]
    assert survived[-1] and not all(survived)
    queue = open_queue()
    assert queue.claim() is None and queue.status().finished == 6
    trials = optuna.load_study(study_name=queue.definition.name, storage=queue.storage.optuna).trials
    complete = Counter(t.user_attrs["number"] for t in trials if t.state == TrialState.COMPLETE)
    assert complete == Counter(range(6))
    assert not [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]


def test_a_requeued_run_keeps_its_number_values_and_folder(open_queue):
    queue = open_queue()
    first = queue.claim()
    queue.requeue(first)
    again = queue.claim()
    assert (again.number, again.point, again.run) == (first.number, first.point, first.run)
    assert again.trial != first.trial and not queue.finish(first, 1.0)
    assert queue.finish(again, 2.0) and finish_all(queue) == [1, 2, 3, 4, 5]


def test_a_run_that_kills_its_process_too_often_fails(open_queue):
    queue = open_queue(parameters="{model.x: {value: 1}}")
    for turn in range(3):
        requeued = queue.requeue(queue.claim(), "its process was killed by SIGKILL")
        assert requeued is (turn < 2)
    assert queue.claim() is None
    assert (queue.status().failed, queue.status().finished) == (1, 0)
    assert queue.retry_failed() == 1 and finish_all(queue) == [0]
    assert (queue.status().failed, queue.status().finished) == (0, 1)


def test_a_process_without_heartbeats_loses_its_runs(open_queue, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(genlab.sweep.owner, "_machine_id", lambda: "elsewhere")
    silent = open_queue(grace=1)
    job = silent.claim()
    monkeypatch.undo()
    monkeypatch.setattr(genlab.sweep.queue, "SECONDS_BETWEEN_CHECKS", 0.0)
    alive = open_queue(grace=1)
    other = alive.claim()
    assert other.number == 1
    deadline = time.monotonic() + HANG_SECONDS
    while (taken := alive.claim()).number != job.number and time.monotonic() < deadline:
        alive.requeue(taken)
        time.sleep(0.15)
        alive.heartbeat()
    assert taken.number == job.number
    assert silent.heartbeat() == [job] and not silent.finish(job, 1.0)
    assert alive.heartbeat() == [] and alive.finish(taken, 1.0) and alive.finish(other, 1.0)
    assert alive.heartbeat() == [] and silent.status().finished == 2


def test_a_run_that_waits_for_the_lock_at_its_end_is_not_given_out_again(open_queue, monkeypatch: pytest.MonkeyPatch):
    queue = open_queue()
    job = queue.claim()
    under_lock = queue._under_lock

    def wait_until_silent(action: Callable[[], object]) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(queue.storage, "silent", lambda study, running: {trial._trial_id for trial in running})
            under_lock(queue._requeue_abandoned)
            assert not queue.heartbeat()
        return under_lock(action)

    monkeypatch.setattr(queue, "_under_lock", wait_until_silent)
    assert queue.finish(job, 1.0)
    assert (queue.status().finished, queue.status().waiting) == (1, 0)


def test_an_interrupted_claim_is_claimed_by_another_process(open_queue, monkeypatch: pytest.MonkeyPatch):
    """The connection is lost after the run was marked as running, before the process learned about it."""
    queue = open_queue(grace=1)
    locked, times = queue.storage.locked, itertools.count()

    @contextlib.contextmanager
    def fragile() -> Iterator[None]:
        with locked():
            yield
            if next(times) == 0:
                raise OperationalError("claim", {}, Exception("the server has gone"))

    monkeypatch.setattr(queue.storage, "locked", fragile)
    first = queue.claim()
    assert first.number == 1
    deadline = time.monotonic() + HANG_SECONDS
    numbers = set()
    while 0 not in numbers and time.monotonic() < deadline:
        if job := queue.claim():
            numbers.add(job.number)
        queue.heartbeat()
        time.sleep(0.2)
    assert 0 in numbers


@pytest.mark.parametrize("open_queue", ["journal"], indirect=True)
def test_the_queue_waits_for_a_storage_that_does_not_answer(open_queue):
    queue, messages, tries = open_queue(), [], itertools.count()

    def fail_twice() -> str:
        if next(tries) < 2:
            raise OperationalError("select", {}, Exception("the server has gone"))
        return "back"

    assert queue.storage.retry(fail_twice, messages.append, threading.Event()) == "back"
    assert len(messages) == 2 and "the server has gone); trying again" in messages[0]
    stop, tries = threading.Event(), itertools.count()
    stop.set()
    with pytest.raises(UsageError, match="give the same command again"):
        queue.storage.retry(fail_twice, messages.append, stop)


def test_a_changed_definition_is_an_error_with_the_differences(open_queue):
    queue = open_queue()
    open_queue(description="more words", run_cap=3)
    with pytest.raises(UsageError, match=r"(?s)another definition.*model\.x.*\[1, 2, 3\].*\[1, 2\]"):
        open_queue(parameters="{model.x: {values: [1, 2]}, model.y: {values: [a, b]}}")
    with pytest.raises(UsageError, match="(?s)another definition.*maximize") as refused:
        open_queue(metric="{name: test/loss, goal: maximize}")
    advice = shlex.split(str(refused.value).rpartition("): ")[2])  # works as typed, also with a space in the path
    assert advice[:2] == ["rm", str(queue.storage.file)] or advice[3] == queue.definition.name
    with queue.storage.locked():
        queue._optuna.create_new_study([StudyDirection.MINIMIZE], "another sweep in the same storage")
    queue.claim()
    with pytest.raises(UsageError, match=r"Ctrl-C there twice\), then delete .*: optuna delete-study --study-name"):
        open_queue(metric="{name: test/loss, goal: maximize}")


def test_run_cap_and_target(open_queue):
    assert finish_all(open_queue(run_cap=2)) == [0, 1]
    assert finish_all(open_queue(run_cap=4)) == [2, 3]


def test_the_target_ends_a_sweep(open_queue):
    queue = open_queue(metric="{name: test/loss, goal: minimize, target: 0.5}")
    assert finish_all(queue) == [0]


def test_random_points_do_not_depend_on_the_number_of_processes(open_queue):
    search = {
        "method": "random",
        "run_cap": 8,
        "parameters": "{model.lr: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-1}, "
        "model.kind: {values: [a, b, c]}}",
    }
    one, other = open_queue(**search), open_queue(**search)
    jobs = [queue.claim() for _ in range(4) for queue in (one, other)]
    points = [one._search.point(number).point for number in range(8)]
    assert [t.point for t in jobs] == points and one.claim() is None
    assert len({p["model.lr"] for p in points}) == 8 and {p["model.kind"] for p in points} == set("abc")
    assert all(1e-4 <= p["model.lr"] <= 1e-1 for p in points)


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_each_point_is_repeated_with_each_seed(open_queue, method: str):
    space = "{model.x: {min: 0.0, max: 1.0}}" if method != "grid" else "{model.x: {values: [3, 4]}}"
    queue = open_queue(method=method, run_cap=6, repeats=3, parameters=space)
    first = queue.claim()
    queue.requeue(first)  # while it waits, another process claims the next run of the same point
    points = []
    while (job := queue.claim()) is not None:
        points.append(tuple(job.point.values()))
        queue.finish(job, 1.0)
    by_x = {x: [seed for other, seed in points if other == x] for x, _ in points}
    assert [sorted(seeds) for seeds in by_x.values()] == [[0, 1, 2]] * 2 and next(iter(first.point.values())) in by_x


def test_equal_random_points_get_different_folders(open_queue):
    queue = open_queue(method="random", run_cap=5, parameters="{model.x: {values: [1]}, model.y: {values: [a]}}")
    runs = [t.run for t in iter(queue.claim, None)]
    assert runs == ["model.x=1,model.y=a", *(f"model.x=1,model.y=a-{k}" for k in (2, 3, 4, 5))]


@pytest.mark.parametrize("open_queue", ["journal"], indirect=True)
def test_bayes_finds_the_minimum_and_avoids_runs_that_diverge(open_queue):
    """(x - 0.3)^2 + (kind is not b) up to x = 0.5, where runs diverge: a Gaussian process soon stays near 0.3."""
    queue = open_queue(
        method="bayes",
        run_cap=25,
        parameters="{model.x: {min: 0.0, max: 1.0}, model.kind: {values: [a, b, c]}}",
    )
    near = diverged = 0
    while (job := queue.claim()) is not None:
        x, kind = job.point["model.x"], job.point["model.kind"]
        queue.finish(job, (x - 0.3) ** 2 + (kind != "b") if x < 0.5 else DIVERGED[job.number % 4])
        near += job.number >= 10 and abs(x - 0.3) < 0.05 and kind == "b"
        diverged += job.number >= 10 and x >= 0.5
    assert near >= 5  # of 15 random points, 5 or more lie there with a probability below 1e-4
    assert diverged <= 4  # of 15 random points, 7 or 8; 8 or more where diverged runs are ignored
    assert queue.status().best < 2e-3


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize("finite", [0, 1])
def test_bayes_with_at_most_one_finite_value_leaves_the_corners(tmp_path: Path, goal: str, finite: int):
    space = {"method": "bayes", "run_cap": 13, "parameters": "{model.x: {min: 0.0, max: 1.0}}"}
    search = Search(definition(tmp_path / "s.yaml", "one", **space, metric=f"{{name: test/mse, goal: {goal}}}"))
    trials: list[FrozenTrial] = []
    for number in range(13):
        chosen = search.suggest(_waiting({"number": number}), trials)
        ended = {"state": TrialState.COMPLETE, "value": 1.0} if number < finite else {"state": TrialState.FAIL}
        trials.append(optuna.create_trial(params=chosen.params, distributions=chosen.distributions, **ended))
    first, *_, a, b, c = (trial.params["model.x"] for trial in trials)
    if finite:
        assert min(abs(x - first) for x in (a, b, c)) < 0.15
    else:
        assert min(a, b, c) > 0 and max(a, b, c) < 1  # random points


def test_a_run_without_a_metric_counts_as_finished(open_queue):
    queue = open_queue()
    for value in DIVERGED:
        queue.finish(queue.claim(), value)
    queue.finish(queue.claim(), 3.0)
    queue.finish(queue.claim(), None, "UsageError: no")
    status = queue.status()
    assert (status.finished, status.failed, status.best) == (5, 1, 3.0)


def test_hyperband_compares_with_all_runs(open_queue):
    queue = open_queue(
        parameters="{model.x: {values: [1, 2, 3]}}",
        early_terminate="{type: hyperband, min_iter: 1, eta: 2}",
        metric="{name: val/loss, goal: minimize}",
    )
    good, bad, between = queue.claim(), queue.claim(), queue.claim()
    assert [queue.report(good, epoch, 1.0) for epoch in (1, 2, 3)] == [False] * 3
    assert not queue.report(bad, 1, 9.0)  # the worse of two is not stopped
    assert queue.report(between, 1, 9.5)
    assert queue.report(good, 4, float("nan"))  # the bracket after the fourth value
    queue.requeue(good)
    assert queue.report(good, 5, 1.0)  # another process may have it now, so it is stopped


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "is not an address"),
        ("nonsense:secret@host", "is not an address"),
        ("mysql://user:secret@host/name", "is not of the form sqlite:///FILE"),
        ("sqlite://", "is not of the form sqlite:///FILE"),
        ("sqlite:///sweep.db?mode=ro", "which a file does not take"),
        ("sqlite:///text.txt", "file is not a database"),
        ("sqlite:///text.txt/sweep.db", "File exists"),
        ("sqlite:////proc/sweep.db", "No such file or directory"),
        ("sqlite://text.txt/sweep.db", "write three slashes before a file: sqlite:///FILE"),
        ("journal:///text.txt", "the file is not a journal of Optuna"),
        ("journal:///text.txt/sweep.log", "Not a directory"),
        ("journal:///none/sweep.log", "No such file or directory); give another file"),
        ("journal:////proc/sweep.log", "No such file or directory"),
        ("postgresql://127.0.0.1:1/none", "refused"),
        ("postgresql://user:secret@127.0.0.1:1/none", "refused"),
        ("postgresql://user@127.0.0.1:1/none?password=secret", "refused"),
        ("postgresql://user:secret@127.0.0.1:99999/none", "invalid port number"),
        ("postgresql://user:secret@127.0.0.1:port/none", "a port that is not a number"),
        ("postgresql://user:more@secret@127.0.0.1/none", "write an @ of the password as %40"),
        ("postgresql://user:secret@127.0.0.1:1/none?connect_timeout=x", "bad value for connect_timeout"),
    ],
)
def test_an_unusable_storage_is_an_error_in_one_line(
    url: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("words")
    with pytest.raises(UsageError, match="storage") as error:
        open_storage(url, "sweep", 60)
    message = str(error.value)
    assert reason in message and "secret" not in message and "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_storage_that_another_process_keeps_locked_is_an_error(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(genlab.sweep.database, "OPEN_SECONDS", 1)
    url = f"sqlite:///{tmp_path}/my sweep.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    holder = open_storage(url, "sweep", 60)
    with holder.locked():
        open_storage(url, "sweep", 60).close()  # a busy sweep does not keep a new process waiting
    with holder._process_lock(TABLES_LOCK), pytest.raises(UsageError, match="cannot use the storage"):
        open_storage(url, "sweep", 60)
    open_storage(url, "sweep", 60).close()
    holder.close()


def test_the_options_of_an_address_are_respected():
    """A server that never answers is given up after the seconds of connect_timeout."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(UsageError, match="timeout expired"):
        open_storage(f"postgresql://127.0.0.1:{server.getsockname()[1]}/none?connect_timeout=2", "sweep", 60)
