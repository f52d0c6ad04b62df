"""What a run records of its circumstances, so that its figures can be compared with those of other runs."""

import functools
import platform
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import nn

from genlab.words import counted


def run_facts(trainer: Trainer, model: LightningModule) -> dict[str, Any]:
    """Returns the entries of summary.json that tell what was trained, on what, and by what it was measured.

    Returns:
        `parameters`: number of values that training changes; `hardware`; `data_fingerprint`, of data with classes;
        `classifier`: fingerprint of the evaluation classifier, if there is one; `compile_seconds`, if networks were
        compiled.
    """
    data: Any = getattr(trainer, "datamodule", None)
    has_classes = hasattr(type(data), "fingerprint") and data.num_classes > 1
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    classifiers: list[Any] = [
        own for callback in callbacks if (own := getattr(callback, "evaluation_classifier", None))
    ]
    compiling = [taken for callback in callbacks if (taken := getattr(callback, "compile_seconds", None)) is not None]
    measured_by = sorted({classifier.fingerprint for classifier in classifiers})
    return {
        "parameters": count_parameters(model),
        "hardware": hardware(trainer),
        **({"data_fingerprint": data.fingerprint[:16]} if has_classes else {}),
        **({"classifier": " ".join(measured_by)} if measured_by else {}),
        **({"compile_seconds": round(sum(compiling), 1)} if compiling else {}),
    }


def count_parameters(model: nn.Module) -> int:
    """Returns the number of values that training changes, which leaves out frozen networks and EMA copies."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def hardware(trainer: Trainer) -> str:
    """Describes what a run trains on: the accelerators, or the processor and the number of its threads."""
    device = trainer.strategy.root_device
    count = f"{trainer.world_size} x " if trainer.world_size > 1 else ""
    if device.type == "cuda":
        return f"{count}{torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return f"{count}{device.type}"
    threads = torch.get_num_threads()
    return f"{count}{processor()}, {counted(threads, 'thread')}"


@functools.cache
def processor() -> str:
    """Returns the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
