import hashlib
import json
import math
import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest
from filelock import FileLock

from genlab.runs.errors import UsageError
from genlab.runs.folder import (
    claim,
    is_numbered,
    last_run,
    lock_run,
    move_aside,
    read_summary,
    run_of_checkpoint,
    safe_name,
    unlock_run,
    write_atomically,
    write_summary,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b", "a_b"),
        ("../x", "_x"),
        ("..", "_"),
        ("", "_"),
        ("depth=3,lr=1e-3", "depth=3,lr=1e-3"),
        ("a\nb c", "a_b_c"),
        ("汉" * 90, "汉" * 63 + "-" + hashlib.sha256(("汉" * 90).encode()).hexdigest()[:8]),  # 198 bytes
    ],
)
def test_a_safe_name_is_one_folder(text: str, name: str):
    assert safe_name(text) == name


def _claim(folder: Path) -> str:
    return claim(folder).name


def test_concurrent_runs_get_different_folders(tmp_path: Path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        names = pool.map(_claim, [tmp_path / "e" / "r"] * 12)
    assert sorted(names) == sorted(["r", *(f"r-{number}" for number in range(2, 13))])


@pytest.mark.parametrize("name", ["checkpoints", "error.txt", "summary.json", ".summary.json.123", "test"])
def test_a_folder_with_files_of_a_run_is_moved_aside(name: str, tmp_path: Path):
    run = claim(tmp_path / "r")
    (run / name).mkdir()
    aside = move_aside(run)
    assert not run.exists() and (aside / name).exists() and move_aside(run) is None


@pytest.mark.parametrize("name", ["thesis.tex", ".git", ".summary.json", "checkpoints2"])
def test_a_folder_with_other_files_is_not_moved_aside(name: str, tmp_path: Path):
    run = claim(tmp_path / "r")
    (run / name).write_text("x")
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        move_aside(run)
    assert (run / name).exists()


def _lock_and_die(run: Path) -> None:
    lock_run(run)
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_at_a_time_trains_in_a_run_folder_whatever_became_of_the_one_before(tmp_path: Path):
    run = claim(tmp_path / "r")
    killed = multiprocessing.get_context("fork").Process(target=_lock_and_die, args=(run,))
    killed.start()
    killed.join()
    write_summary(run, {"state": "running", "host": "far", "pid": 7})  # another process may have this number by now
    lock = lock_run(run)
    for refused in (lock_run, move_aside):
        with pytest.raises(UsageError, match=r"r is still running \(process 7 on far\); stop it first"):
            refused(run)
    unlock_run(lock)
    unlock_run(lock_run(run))
    assert [path.name for path in run.iterdir()] == ["summary.json"] and move_aside(run) is not None


@pytest.mark.parametrize("owner", ["another process", "no process"])
def test_without_locks_the_record_tells_whether_a_run_is_running(owner: str, tmp_path: Path, monkeypatch):
    def no_locks(self: FileLock) -> None:
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    pid = {"another process": os.getppid(), "no process": 2**22 + 1}[owner]
    run = claim(tmp_path / "r")
    write_summary(run, {"state": "running", "host": socket.gethostname(), "pid": pid})
    if owner == "another process":
        with pytest.raises(UsageError, match="still running"):
            move_aside(run)
    else:
        assert move_aside(run) is not None


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, monkeypatch):
    write_atomically(tmp_path / "f", "old")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_summary_is_plain_json_for_all_numbers(tmp_path: Path):
    write_summary(tmp_path, {"a": math.nan, "b": [math.inf, -math.inf], "c": {"d": (1, 2)}, "e": Path("x"), "f": None})
    expected = {"a": "nan", "b": ["inf", "-inf"], "c": {"d": [1, 2]}, "e": "x", "f": None}
    assert json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail) == expected
    assert read_summary(tmp_path) == expected


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "\xff"])
def test_an_unreadable_summary_is_none(content: str | None, tmp_path: Path):
    if content is not None:
        (tmp_path / "summary.json").write_text(content, encoding="latin-1")
    assert read_summary(tmp_path) is None


def test_the_run_of_a_checkpoint(tmp_path: Path):
    run = tmp_path / "e" / "r"
    (run / "checkpoints").mkdir(parents=True)
    assert run_of_checkpoint(run / "checkpoints" / "last.ckpt") is None
    (run / "config.yaml").write_text("")
    assert run_of_checkpoint(run / "checkpoints" / "last.ckpt") == run
    assert run_of_checkpoint(tmp_path / "last.ckpt") is None


def test_the_last_run_is_the_highest_number_that_can_be_resumed(tmp_path: Path):
    for name in ("r", "r-2", "r-10", "r-11", "r-x", "rest-99"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        if name != "r-11":
            (tmp_path / name / "checkpoints" / "last.ckpt").write_text("")
    assert last_run(tmp_path / "r") == tmp_path / "r-10"
    assert last_run(tmp_path / "none") is None
    assert is_numbered(tmp_path / "r-2", tmp_path / "r") and not is_numbered(tmp_path / "r-x", tmp_path / "r")
