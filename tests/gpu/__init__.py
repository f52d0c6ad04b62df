"""Checks that need a GPU: `make test-gpu`.

Without a GPU they are skipped. GENLAB_TEST_DEVICE=cpu rehearses on the CPU those that need no CUDA.
"""

import os

import torch

DEVICE = os.environ.get("GENLAB_TEST_DEVICE", "cuda")
"""cuda, or cpu for a rehearsal."""
ACCELERATOR = "gpu" if DEVICE == "cuda" else "cpu"
ON_CUDA = DEVICE == "cuda" and torch.cuda.is_available()
ON_DEVICE = [f"--trainer.accelerator={ACCELERATOR}", "--trainer.devices=1"]
