import json
import math
import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from genlab.runs.errors import UsageError
from genlab.runs.folder import (
    claim,
    is_numbered,
    last_run,
    read_summary,
    run_of_checkpoint,
    safe_name,
    set_aside,
    write_summary,
    write_whole,
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
    ],
)
def test_safe_names_are_one_folder(text: str, name: str):
    assert safe_name(text) == name


def _claim(folder: Path) -> str:
    return claim(folder).name


def test_runs_at_once_get_a_folder_each(tmp_path: Path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        names = pool.map(_claim, [tmp_path / "e" / "r"] * 12)
    assert sorted(names) == sorted(["r", *(f"r-{number}" for number in range(2, 13))])


@pytest.mark.parametrize("name", ["checkpoints", "error.txt", "summary.json", ".summary.json.123", "test"])
def test_all_that_a_run_writes_may_be_set_aside(name: str, tmp_path: Path):
    run = claim(tmp_path / "r")
    (run / name).mkdir()
    aside = set_aside(run)
    assert not run.exists() and (aside / name).exists() and set_aside(run) is None


@pytest.mark.parametrize("name", ["thesis.tex", ".git", ".summary.json", "checkpoints2"])
def test_what_no_run_wrote_is_not_set_aside(name: str, tmp_path: Path):
    run = claim(tmp_path / "r")
    (run / name).write_text("x")
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        set_aside(run)
    assert (run / name).exists()


@pytest.mark.parametrize(("whose", "going_on"), [("another's", True), ("this one's", False), ("nobody's", False)])
def test_a_live_run_is_not_set_aside(whose: str, going_on: bool, tmp_path: Path):
    pid = {"another's": os.getppid(), "this one's": os.getpid(), "nobody's": 2**22 + 1}[whose]
    run = claim(tmp_path / "r")
    write_summary(run, {"state": "running", "host": socket.gethostname(), "pid": pid})
    if going_on:
        with pytest.raises(UsageError, match="still going on"):
            set_aside(run)
    else:
        assert set_aside(run) is not None


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch):
    write_whole(tmp_path / "f", "old")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_summary_is_plain_json_whatever_the_numbers(tmp_path: Path):
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


def test_the_last_run_is_the_highest_number_that_can_go_on(tmp_path: Path):
    for name in ("r", "r-2", "r-10", "r-11", "r-x", "rest-99"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        if name != "r-11":
            (tmp_path / name / "checkpoints" / "last.ckpt").write_text("")
    assert last_run(tmp_path / "r") == tmp_path / "r-10"
    assert last_run(tmp_path / "none") is None
    assert is_numbered(tmp_path / "r-2", tmp_path / "r") and not is_numbered(tmp_path / "r-x", tmp_path / "r")
