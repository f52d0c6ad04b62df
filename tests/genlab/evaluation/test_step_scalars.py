import math
from pathlib import Path

import torch
import torch.distributed as dist

from genlab.evaluation.step_scalars import StepScalars
from tests.preloaded import two_processes


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    recent = StepScalars("loss_d", "loss_g")
    for step in range(5):
        recent.add({"loss_d": torch.tensor(float(step + rank)), "loss_g": torch.tensor(math.inf if rank else 1.0)})
    torch.save([recent.values("loss_d"), recent.values("loss_g"), recent.state_dict()], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_values_are_means_over_processes(tmp_path: Path):
    two_processes(_rank, str(tmp_path))
    for rank in range(2):
        loss_d, loss_g, state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert loss_d.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5] and loss_g.isinf().all()
        assert torch.equal(state["loss_d"], loss_d)
