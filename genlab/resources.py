"""What this process takes of the machine and of its GPUs."""

import resource
import sys
from typing import Any

import torch

from datamodules.memory import available_memory


def used_resources() -> dict[str, Any]:
    """Returns what this process has taken at most, and what memory the machine has left.

    Returns:
        `memory`: bytes that it has taken; `free`: bytes that are free; `threads` of PyTorch; `gpus`: bytes that it has
        reserved of each GPU, by the GPU's uuid.
    """
    return {
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "free": available_memory(),
        "threads": torch.get_num_threads(),
        "gpus": _used_gpus() if torch.cuda.is_initialized() else {},
    }


def _used_gpus() -> dict[str, int]:
    reserved = {number: torch.cuda.max_memory_reserved(number) for number in range(torch.cuda.device_count())}
    return {str(torch.cuda.get_device_properties(k).uuid): size for k, size in reserved.items() if size > 0}
