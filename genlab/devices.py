import torch


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU for a device without float64."""
    return torch.device("cpu") if device.type == "mps" else device
