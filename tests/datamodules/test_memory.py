from pathlib import Path

import pytest

from datamodules import memory


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {}, 8000 * 1024),
        ("0::/", {"memory.max": "max", "memory.stat": "anon 5"}, 8000 * 1024),
        ("0::/", {"memory.max": "3000", "memory.stat": "anon 1000\nfile 900"}, 2000),
        ("0::/job/step", {"job/memory.max": "3000", "job/memory.stat": "anon 3500"}, 0),
        ("2:cpu:/a\n1:memory:/a", {"memory/memory.limit_in_bytes": "5000", "memory/memory.stat": "total_rss 1"}, 4999),
    ],
)
def test_available_memory_keeps_the_limits_of_containers_and_jobs(groups, files, expected, tmp_path: Path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    (tmp_path / "own").write_text(groups)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    assert memory.available_memory() == expected


def test_a_system_without_these_files_has_a_figure(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "none")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "none")
    assert memory.available_memory() > 0
