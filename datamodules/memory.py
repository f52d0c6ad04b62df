"""How much memory this process can still take."""

import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MACHINE = Path("/proc/meminfo")


def available_memory() -> int:
    """Returns the bytes that this machine has free, and its containers or batch jobs leave to this process.

    Examples:
        >>> available_memory() > 0
        True
    """
    return min([_free_in_machine(), *_free_in_groups()])


def _free_in_machine() -> int:
    try:
        lines = MACHINE.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):  # not Linux: no figure of the free memory, so half of all
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _free_in_groups() -> Iterator[int]:
    """Yields what each control group of this process leaves, of version 2 and 1."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, used = GROUPS, "memory.max", "anon"
        elif "memory" in controllers.split(","):
            root, limit, used = GROUPS / "memory", "memory.limit_in_bytes", "total_rss"
        else:
            continue
        own = root / path.lstrip("/")
        for group in (own, *own.parents):  # a container sees its own group as the root
            try:
                most = int((group / limit).read_text())
                counts = dict(count.split() for count in (group / "memory.stat").read_text().splitlines())
                yield max(0, most - int(counts[used]))
            except (OSError, ValueError, KeyError):  # no such group here, or no limit
                pass
            if group == root:
                break
