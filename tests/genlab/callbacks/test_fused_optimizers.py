import pytest
import torch

from genlab.callbacks.fused_optimizers import use_fused_kernel

ADAM = torch.optim.Adam


@pytest.mark.parametrize(
    ("make", "options", "fused"),
    [
        (ADAM, {}, True),
        (torch.optim.AdamW, {}, True),
        (ADAM, {"fused": False}, False),
        (ADAM, {"foreach": True}, None),
        (ADAM, {"foreach": False}, None),
        (ADAM, {"differentiable": True}, None),
        (torch.optim.RMSprop, {}, None),
    ],
)
def test_only_optimizers_that_leave_it_open_change(
    make: type[torch.optim.Optimizer], options: dict, fused: bool | None
):
    optimizer = make([torch.nn.Parameter(torch.zeros(2))], **options)
    use_fused_kernel(optimizer)
    assert optimizer.param_groups[0].get("fused") == fused


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_its_steps_are_those_of_the_other_kernel(weight_decay: float):
    draw = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(50, generator=draw), torch.randn(20, 50, generator=draw)
    ended = []
    for fused in (False, True):
        weight = torch.nn.Parameter(start.clone())
        optimizer = ADAM([weight], lr=0.1, weight_decay=weight_decay)
        if fused:
            use_fused_kernel(optimizer)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        ended.append(weight.detach())
    assert not hasattr(optimizer, "_step_supports_amp_scaling")  # the scaler unscales before gradients are clipped
    torch.testing.assert_close(*ended, rtol=1e-5, atol=1e-6)
