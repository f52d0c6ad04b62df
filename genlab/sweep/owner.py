"""Which process owns a run of the queue, and whether it still exists on this machine."""

import contextlib
import os
import socket
from pathlib import Path

from genlab.runs.folder import is_alive


def this_process(mark: str = "") -> str:
    """Identifies this process, as in MARK@machine:process. The mark names its sign of life, where there is one."""
    return f"{mark}@{_machine_id()}:{os.getpid()}"


def mark_of(owner: str) -> str:
    """Returns the mark of an owner; an empty text if it has none."""
    return owner.rpartition("@")[0]


def is_gone(owner: str) -> bool:
    """Returns whether an owner is a process of this machine that no longer exists."""
    machine, _, number = owner.rpartition("@")[2].rpartition(":")
    here = machine == _machine_id() and number.isdigit() and int(number) != os.getpid()
    return here and not is_alive(int(number))


def _machine_id() -> str:
    """Identifies the space of process ids: this host since it was booted, or this container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)
