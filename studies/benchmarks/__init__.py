import os
import platform

import torch

from genlab.words import counted


def machine() -> str:
    """Describes the machine of a measurement in one line."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    cores, threads = counted(os.cpu_count() or 1, "core"), counted(torch.get_num_threads(), "thread")
    return f"{model}, {cores}, {threads}, torch {torch.__version__}"
