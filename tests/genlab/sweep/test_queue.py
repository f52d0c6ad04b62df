"""The queue on SQLite and on PostgreSQL: each point once, whoever dies wherever."""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

import genlab.sweep.queue
from genlab.runs.errors import UsageError
from genlab.sweep.definition import Definition
from genlab.sweep.definition_file import load_definition
from genlab.sweep.queue import Queue
from genlab.sweep.storage import Storage
from tests import HANG_SECONDS

WRITES = ("create_new_trial", "record_heartbeat", "set_trial_state_values", "set_trial_user_attr", "set_trial_param")


class Killed(BaseException):
    """What a SIGKILL is to the code: it ends there."""


def definition(path: Path, name: str, **changes: object) -> Definition:
    head = {"name": name, "program": "train.py", "method": "grid", "metric": "{name: test/loss, goal: minimize}"}
    head |= {"parameters": "{model.x: {values: [1, 2, 3]}, model.y: {values: [a, b]}}"} | changes
    head["command"] = '["${program}", fit, "${args}"]'
    path.write_text("".join(f"{key}: {value}\n" for key, value in head.items()))
    return load_definition(path)


def name_of(point: dict) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(point.items()))


@pytest.fixture(params=["sqlite", "postgresql"])
def begin(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Queue]]:
    """Opens the queue of a sweep, always the same one, as another process would."""
    url = f"sqlite:///{tmp_path}/sweep.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    name = request.node.name  # the same at every time: random points depend on it
    monkeypatch.setattr(genlab.sweep.queue, "SECONDS_BETWEEN_CHECKS", 0.0)

    storages: list[Storage] = []

    def begin(grace: int = 60, **changes: object) -> Queue:
        storages.append(Storage(url, name, grace))
        return Queue(definition(tmp_path / "sweep.yaml", name, **changes), storages[-1], name_of)

    yield begin
    for storage in storages:
        storage.close()


def finish_all(queue: Queue) -> list[int]:
    done = []
    while (ticket := queue.claim()) is not None:
        assert queue.finish(ticket, float(ticket.number))
        done.append(ticket.number)
    return done


def test_each_point_once_in_wandbs_order(begin):
    queue = begin()
    tickets = list(iter(queue.claim, None))
    assert [t.run for t in tickets] == [f"model.x={x},model.y={y}" for x in (1, 2, 3) for y in "ab"]
    assert [t.number for t in tickets] == list(range(6))
    standing = queue.standing()
    assert (standing.running, standing.finished, standing.total) == (6, 0, 6)
    for ticket in tickets:
        queue.finish(ticket, float(10 - ticket.number))
    standing = queue.standing()
    assert (standing.finished, standing.best, standing.best_run) == (6, 5.0, "model.x=3,model.y=b")
    assert begin().claim() is None


def test_many_hands_never_take_the_same_point(begin):
    begin(parameters="{model.x: {distribution: int_uniform, min: 0, max: 59}}")
    taken: list[int] = []

    def work() -> None:
        taken.extend(finish_all(begin(parameters="{model.x: {distribution: int_uniform, min: 0, max: 59}}")))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(60))


def test_killed_at_every_write(begin, monkeypatch: pytest.MonkeyPatch):
    """A process that dies before any one of its writes, claiming, finishing or returning, loses and doubles nothing."""
    monkeypatch.setattr(genlab.sweep.queue, "_vanished", lambda owner: True)  # whoever holds a run has died
    done: Counter[int] = Counter()

    def one_life(die_at: int) -> bool:
        """Works until it dies; whether it lived."""
        queue = begin()
        writes = itertools.count()

        def mortal(write: Callable) -> Callable:
            def called(*args: object, **kwargs: object) -> object:
                if next(writes) == die_at:
                    raise Killed
                return write(*args, **kwargs)

            return called

        with monkeypatch.context() as fragile:
            for name in WRITES:
                for storage in {queue.storage.optuna, queue._optuna}:
                    if hasattr(storage, name) and (storage is queue._optuna or name == "record_heartbeat"):
                        fragile.setattr(storage, name, mortal(getattr(storage, name)))
            try:
                for turn in itertools.count():
                    ticket = queue.claim()
                    if ticket is None:
                        return True
                    if turn % 3 == 1:
                        queue.give_back(ticket)
                    elif queue.finish(ticket, 1.0):
                        done[ticket.number] += 1
            except Killed:
                return False
            finally:
                queue.storage.close()

    lives = [one_life(die_at) for die_at in range(40)]
    assert lives[-1] and not all(lives)
    queue = begin()
    assert queue.claim() is None and queue.standing().finished == 6
    trials = optuna.load_study(study_name=queue.definition.name, storage=queue.storage.optuna).trials
    complete = Counter(t.user_attrs["number"] for t in trials if t.state == TrialState.COMPLETE)
    assert complete == Counter(range(6))
    assert not [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]


def test_a_returned_run_keeps_its_number_values_and_folder(begin):
    queue = begin()
    first = queue.claim()
    queue.give_back(first)
    again = queue.claim()
    assert (again.number, again.point, again.run) == (first.number, first.point, first.run)
    assert again.trial != first.trial and not queue.finish(first, 1.0)
    assert queue.finish(again, 2.0) and finish_all(queue) == [1, 2, 3, 4, 5]


def test_a_run_that_kills_its_process_fails_in_the_end(begin):
    queue = begin(parameters="{model.x: {value: 1}}")
    for turn in range(3):
        returned = queue.give_back(queue.claim(), "its process was ended by SIGKILL")
        assert returned is (turn < 2)
    assert queue.claim() is None
    assert (queue.standing().failed, queue.standing().finished) == (1, 0)
    assert queue.retry_failed() == 1 and finish_all(queue) == [0]
    assert (queue.standing().failed, queue.standing().finished) == (0, 1)


def test_the_silent_lose_their_runs(begin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(genlab.sweep.queue, "_machine", lambda: "elsewhere")
    silent = begin(grace=1)
    ticket = silent.claim()
    monkeypatch.undo()
    monkeypatch.setattr(genlab.sweep.queue, "SECONDS_BETWEEN_CHECKS", 0.0)
    alive = begin(grace=1)
    other = alive.claim()
    assert other.number == 1
    for _ in range(30):
        threading.Event().wait(0.15)
        alive.beat()
    taken = alive.claim()
    assert taken.number == ticket.number
    assert silent.beat() == [ticket] and not silent.finish(ticket, 1.0)
    assert alive.beat() == [] and alive.finish(taken, 1.0) and alive.finish(other, 1.0)


def test_a_claim_that_was_cut_off_goes_to_another(begin, monkeypatch: pytest.MonkeyPatch):
    """The storage is lost after the run was marked as running, before anybody heard of it."""
    queue = begin(grace=1)
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
        if ticket := queue.claim():
            numbers.add(ticket.number)
        queue.beat()
        time.sleep(0.2)
    assert 0 in numbers


def test_waiting_for_a_storage_that_is_away(begin):
    queue, said, tries = begin(), [], itertools.count()

    def away_twice() -> str:
        if next(tries) < 2:
            raise OperationalError("select", {}, Exception("the server has gone"))
        return "back"

    assert queue.storage.insist(away_twice, said.append, threading.Event()) == "back"
    assert len(said) == 2 and "the server has gone); trying again" in said[0]
    stop, tries = threading.Event(), itertools.count()
    stop.set()
    with pytest.raises(UsageError, match="the same command goes on"):
        queue.storage.insist(away_twice, said.append, stop)


def test_a_changed_definition_is_refused_with_the_difference(begin):
    begin()
    begin(description="more words", run_cap=3)
    with pytest.raises(UsageError, match=r"(?s)another definition.*model\.x.*\[1, 2, 3\].*\[1, 2\]"):
        begin(parameters="{model.x: {values: [1, 2]}, model.y: {values: [a, b]}}")
    with pytest.raises(UsageError, match="(?s)another definition.*maximize"):
        begin(metric="{name: test/loss, goal: maximize}")


def test_run_cap_and_target(begin):
    assert finish_all(begin(run_cap=2)) == [0, 1]
    assert finish_all(begin(run_cap=4)) == [2, 3]


def test_the_target_ends_a_sweep(begin):
    queue = begin(metric="{name: test/loss, goal: minimize, target: 0.5}")
    assert finish_all(queue) == [0]


def test_random_points_are_the_same_for_any_number_of_hands(begin):
    search = {
        "method": "random",
        "run_cap": 8,
        "parameters": "{model.lr: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-1}, "
        "model.kind: {values: [a, b, c]}}",
    }
    one, other = begin(**search), begin(**search)
    tickets = [queue.claim() for _ in range(4) for queue in (one, other)]
    points = [one._search.point(number).point for number in range(8)]
    assert [t.point for t in tickets] == points and one.claim() is None
    assert len({p["model.lr"] for p in points}) == 8 and {p["model.kind"] for p in points} == set("abc")
    assert all(1e-4 <= p["model.lr"] <= 1e-1 for p in points)


def test_equal_random_points_get_folders_of_their_own(begin):
    queue = begin(method="random", run_cap=5, parameters="{model.x: {values: [1]}, model.y: {values: [a]}}")
    runs = [t.run for t in iter(queue.claim, None)]
    assert runs == ["model.x=1,model.y=a", *(f"model.x=1,model.y=a-{k}" for k in (2, 3, 4, 5))]


def test_bayes_finds_the_valley(begin):
    """(x - 0.3)^2 + (kind is not b): among 25 points a Gaussian process has several within 0.05 of the lowest."""
    queue = begin(
        method="bayes",
        run_cap=25,
        parameters="{model.x: {min: 0.0, max: 1.0}, model.kind: {values: [a, b, c]}}",
    )
    near = 0
    while (ticket := queue.claim()) is not None:
        x, kind = ticket.point["model.x"], ticket.point["model.kind"]
        queue.finish(ticket, (x - 0.3) ** 2 + (kind != "b"))
        near += ticket.number >= 10 and abs(x - 0.3) < 0.05 and kind == "b"
    assert near >= 5  # 15 random points have 5 or more there with a chance below 1e-4
    assert queue.standing().best < 1e-3


def test_a_run_without_a_number_is_finished_and_not_best(begin):
    queue = begin()
    queue.finish(queue.claim(), float("nan"))
    queue.finish(queue.claim(), None)
    queue.finish(queue.claim(), 3.0)
    queue.finish(queue.claim(), None, "UsageError: no")
    standing = queue.standing()
    assert (standing.finished, standing.failed, standing.best) == (3, 1, 3.0)


def test_hyperband_compares_with_all_runs(begin):
    queue = begin(
        parameters="{model.x: {values: [1, 2, 3]}}",
        early_terminate="{type: hyperband, min_iter: 1, eta: 2}",
        metric="{name: val/loss, goal: minimize}",
    )
    good, bad, between = queue.claim(), queue.claim(), queue.claim()
    assert [queue.report(good, epoch, 1.0) for epoch in (1, 2, 3)] == [False] * 3
    assert [queue.report(bad, epoch, 9.0) for epoch in (1, 2)] == [False, False]  # of two, the worse is at the half
    assert [queue.report(between, epoch, 9.5) for epoch in (1, 2)] == [False, True]
    assert [queue.report(good, epoch, float("nan")) for epoch in (4, 5)] == [False, False]  # left out
    queue.give_back(good)
    assert queue.report(good, 6, 1.0)  # it is another's now: end it


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/name", "sqlite://", "postgresql://127.0.0.1:1/none"])
def test_a_storage_that_cannot_be_used(url: str):
    with pytest.raises(UsageError, match="storage"):
        Storage(url, "sweep", 60)
