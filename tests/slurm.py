"""A Slurm for tests: `sbatch` starts the jobs of an array as processes, and the other commands show and change them.

The partition `closed` accepts no jobs, those in `broken` have a faulty environment, and those in `full` wait for ever. A
job whose file `requeue` exists, or that was killed by SIGKILL like one of a node that is gone, begins again when it has
ended. All jobs are in the grace time of a preemption.
"""

import os
import signal
from pathlib import Path

import pytest

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
    """The commands, in front of all others in PATH.

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
