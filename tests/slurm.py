"""Slurm for tests: `FakeSlurm` has commands that start and show jobs, and `start_slurm` starts Slurm itself."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import wait_for

COMMANDS = {
    "sbatch": """
        grep -q partition=closed "$1" && { echo "sbatch: error: invalid partition specified: closed" >&2; exit 1; }
        id=$(ls "$FAKE_SLURM" | grep -c sh$); id=$((id + 10)); cp "$1" "$FAKE_SLURM/$id.sh"
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        for task in $(seq 0 "${last:-0}"); do
            job=$FAKE_SLURM/${id}_$task; mkdir "$job"; realpath -s "$1" > "$job/script"
            grep -q partition=full "$1" && continue
            export SLURM_JOB_ID=$id$task SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_PROCID=0
            (
                while bash "$1"; [ $? = 137 ] || [ -e "$job/requeue" ]; do rm -f "$job/requeue"; done
                rm -r "$job"
            ) > "$FAKE_SLURM/$id.txt" 2>&1 < /dev/null &
        done
        echo "Submitted batch job $id"
    """,
    "srun": """
        while [[ $1 == --* ]]; do [ "$1" = --output ] && output=$2 && shift; shift; done
        for part in "A/$SLURM_ARRAY_JOB_ID" "j/$SLURM_ARRAY_JOB_ID" "a/$SLURM_ARRAY_TASK_ID" t/0; do
            output=${output//%${part%/*}/${part#*/}}
        done
        job=$FAKE_SLURM/${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
        [[ $(cat "$FAKE_SLURM/$SLURM_ARRAY_JOB_ID.sh") == *partition=broken* ]] && set -- sh -c "echo no GPU; exit 1"
        echo $$ > "$job/pid"
        exec "$@" >> "$output" 2>&1
    """,
    "squeue": """
        cd "$FAKE_SLURM"
        for job in *_*; do
            [ -e "$job/pid" ] && state=R || state=PD
            [ -e "$job/script" ] && echo "$job|$state|Priority|$(cat "$job/script")"
        done
        true
    """,
    "scontrol": """
        [ "$1" = requeue ] && touch "$FAKE_SLURM/$2/requeue"
        [ "$1" = show ] && echo "JobState=RUNNING PreemptTime=2030-01-01T00:00:00"
    """,
    "scancel": """
        echo "$@" >> "$FAKE_SLURM/cancelled"; shift
        for job in "$@"; do [ -e "$FAKE_SLURM/$job/pid" ] || rm -r "$FAKE_SLURM/$job"; done
    """,
}


class FakeSlurm:
    """Commands in front of all others in PATH. `sbatch` starts the jobs of an array as processes.

    The partition `closed` accepts no jobs, those in `broken` have a faulty environment, and those in `full` wait for
    ever. A job that is requeued, or whose command was killed by SIGKILL as on a node that is gone, begins again. All
    jobs are in the grace time of a preemption.

    Args:
        folder: An empty folder for them.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "jobs"
        self.folder.mkdir()
        for name, text in COMMANDS.items():
            (folder / name).write_text(f"#!/bin/bash\n{text}")
            (folder / name).chmod(0o700)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_SLURM", str(self.folder))

    def script(self, array: int) -> str:
        return (self.folder / f"{array}.sh").read_text()

    def jobs(self) -> dict[str, int | None]:
        """Returns the jobs that wait or run, with their process ids."""
        files = {job.name: job / "pid" for job in sorted(self.folder.glob("*_*"))}
        return {name: int(file.read_text()) if file.exists() else None for name, file in files.items()}

    def send(self, job: str, number: signal.Signals) -> None:
        pid = self.jobs()[job]
        assert pid is not None
        os.kill(pid, number)


CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=3
ReturnToService=2
MpiDefault=none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=4
PartitionName=low Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=grace Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10
"""


@contextmanager
def start_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Starts the daemons, with two nodes on this machine, and lets the commands of Slurm use them."""
    with ExitStack() as sockets:
        ports = [sockets.enter_context(socket.socket()) for _ in range(3)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        numbers = dict(zip(("port", "port1", "port2"), (port.getsockname()[1] for port in ports), strict=True))
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=socket.gethostname(), **numbers))
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    (folder / "state").mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    munge = {
        "key-file": "key",
        "socket": "munge.sock",
        "pid-file": "munged.pid",
        "log-file": "log",
        "seed-file": "seed",
    }
    try:
        slurm("munged", "--force", *(f"--{option}={folder / name}" for option, name in munge.items()))
        slurm("slurmctld")
        for node in ("n1", "n2"):
            slurm("slurmd", "-N", node)
        wait_for(lambda: slurm("sinfo", "--noheader", "--format=%D %t", "--partition=low") == "2 idle")
        yield
    finally:
        slurm("scancel", f"--user={os.getuid()}")
        wait_for(lambda: not slurm("squeue", "--noheader"))
        for file in folder.glob("*.pid"):
            os.kill(int(file.read_text()), signal.SIGTERM)


def slurm(*command: str) -> str:
    """Executes a command of Slurm; returns its output."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


NEEDS_SLURM = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))),
    reason="needs slurmctld, slurmd and munged, started by root",
)
