"""Communication between the processes of a distributed training."""

from typing import Any

import torch.distributed as dist


def all_gather_objects(own: Any) -> list[Any]:
    """Gathers an object from each process, in order of rank. All processes must call it together."""
    ranks = [own]
    if dist.is_available() and dist.is_initialized():
        ranks *= dist.get_world_size()
        dist.all_gather_object(ranks, own)
    return ranks
