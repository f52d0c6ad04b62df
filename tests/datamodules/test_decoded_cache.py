import errno
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from datamodules import DataError
from datamodules.decoded_cache import LEFT_OUT, Allocate, Decoded, decoded

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)


class Writer:
    """Writes five images of two classes and counts how often."""

    def __init__(self, first: int = 0) -> None:
        self.first, self.calls = first, 0

    def __call__(self, allocate: Allocate) -> dict[str, object]:
        self.calls += 1
        images, labels = allocate("train", 5, 4, 6, 3)
        images[:], labels[:] = PIXELS, [self.first, 1, 0, 1, 1]
        allocate("test", 2, 4, 6, 3)[0][:] = 7
        return {"classes": ["a", "b"]}


def make(folder: Path | None, write: Writer, size: int = 4, state: str = "s") -> Decoded:
    return decoded(folder, "photos", {"size": size}, state, write)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("on_disk", [True, False])
def test_images_are_written_once_and_mapped_without_a_copy(on_disk: bool, tmp_path: Path):
    folder, write = tmp_path / "new" / "cache" if on_disk else None, Writer()
    for _ in range(2):
        made = make(folder, write)
        assert np.array_equal(made.arrays["x_train"], PIXELS) and made.arrays["y_train"].tolist() == [0, 1, 0, 1, 1]
        assert (made.arrays["x_test"] == 7).all() and made.notes == {"classes": ["a", "b"]}
        assert made.arrays["x_train"].transpose(0, 3, 1, 2).flags.c_contiguous
        assert isinstance(made.arrays["x_train"], np.memmap) == on_disk
    assert write.calls == (1 if on_disk else 2) and [*tmp_path.iterdir()] == ([tmp_path / "new"] if on_disk else [])


@pytest.mark.parametrize("on_disk", [True, False])
def test_images_may_be_left_out(on_disk: bool, tmp_path: Path):
    made = make(tmp_path if on_disk else None, Writer(first=LEFT_OUT))
    assert np.array_equal(made.arrays["x_train"], PIXELS[1:]) and made.arrays["y_train"].tolist() == [1, 0, 1, 1]
    assert made.arrays["x_train"].transpose(0, 3, 1, 2).flags.c_contiguous


def test_each_key_has_its_files_and_a_new_state_replaces_the_old_one(tmp_path: Path):
    old = make(tmp_path, Writer())
    make(tmp_path, Writer(), size=8)
    assert len(entries(tmp_path)) == 2
    new = make(tmp_path, Writer(first=1), state="t")
    assert len(entries(tmp_path)) == 2 and old.path is not None and not old.path.exists()
    assert new.arrays["y_train"][0] == 1 and np.array_equal(old.arrays["x_train"], PIXELS)  # it is still mapped


def test_changes_of_the_arrays_are_not_written(tmp_path: Path):
    make(tmp_path, Writer()).arrays["x_train"][:] = 0
    assert np.array_equal(make(tmp_path, Writer()).arrays["x_train"], PIXELS)


def test_damaged_files_are_made_anew(tmp_path: Path):
    write = Writer()
    for name, calls in (("x_train.npy", 2), ("y_test.npy", 3), ("notes.json", 4)):
        path = make(tmp_path, write).path
        assert path is not None
        (path / name).write_bytes((path / name).read_bytes()[:-5])
        assert np.array_equal(make(tmp_path, write).arrays["x_train"], PIXELS) and write.calls == calls


def test_a_second_process_waits_for_the_first(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("datamodules.decoded_cache.SECONDS_BEFORE_MESSAGE", 0.05)
    begun, may_end, write, made = threading.Event(), threading.Event(), Writer(), []

    def slow(allocate: Allocate) -> dict[str, object]:
        begun.set()
        assert may_end.wait(60)
        return write(allocate)

    def said(text: str) -> None:
        may_end.set()
        assert text.startswith(f"waiting for another process that makes {tmp_path / 'photos-'}")

    monkeypatch.setattr("builtins.print", lambda text, **_: said(text))
    threads = [threading.Thread(target=lambda f=f: made.append(make(tmp_path, f))) for f in (slow, write)]  # type: ignore[misc]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert write.calls == 1 and all(np.array_equal(each.arrays["x_train"], PIXELS) for each in made) and len(made) == 2


def test_a_killed_writer_leaves_nothing_that_is_used(tmp_path: Path):
    def killed(allocate: Allocate) -> None:
        allocate("train", 5, 4, 6, 3)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        decoded(tmp_path, "photos", {"size": 4}, "s", killed)
    os.waitpid(child, 0)
    assert ".part-" in entries(tmp_path)[0]
    assert np.array_equal(make(tmp_path, Writer()).arrays["x_train"], PIXELS) and len(entries(tmp_path)) == 1


def test_what_goes_wrong_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch):
    def refused(message: str, folder: Path = tmp_path, write: Writer | None = None) -> None:
        with pytest.raises(DataError, match=message) as caught:
            make(folder, write or Writer())
        assert "\n" not in str(caught.value) and entries(tmp_path) == []

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def unreadable(allocate: Allocate) -> None:
        raise OSError(errno.EIO, "Input/output error", "/photos/a.jpg")

    refused(r"^photos-\S+ cannot be made \(.*'/photos/a.jpg'\); repair or replace the file", write=unreadable)  # type: ignore[arg-type]
    refused(r"^the decoded images cannot be kept in /dev/null/x \(Not a directory\); free", Path("/dev/null/x"))
    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", no_space, raising=False)
        refused(r"cannot be kept in \S+ \(No space left on device\); free space .* with --data.cache null$")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(10, 0, 10))  # type: ignore[attr-defined]
    refused(r"^5 decoded images of 3 x 4 x 6 take 0.0 MB, and \S+ has 0.0 MB of free space; free some, or give another")
