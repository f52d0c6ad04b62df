from typing import Any

import torch.distributed as dist


def of_all_processes(mine: Any) -> list[Any]:
    """What each process has, by its rank; all of them have to ask for it together."""
    ranks = [mine]
    if dist.is_available() and dist.is_initialized():
        ranks *= dist.get_world_size()
        dist.all_gather_object(ranks, mine)
    return ranks
