"""Posteriors of a VAE's Gaussian code that have parameters besides the encoder's."""

from lit_models.common.component import Component
from lit_models.networks.autoregressive_flow import AutoregressiveFlow, FlowKind, check_flow


class FlowPosterior(Component):
    """q(z|x) is the distribution of f(z_0; h), where z_0 ~ N(mu, diag(sigma^2)) and f is an autoregressive flow.

    Inverse autoregressive flow (Kingma et al. 2016, arXiv 1606.04934, section 3). The encoder computes mu, log sigma^2
    and the context h. The code that stands for an image is f(mu; h), which need not be the mode of q.

    Args:
        kind: Kind of the maps: affine, or spline.
        maps: Number of autoregressive maps.
        hidden_dims: Widths of the hidden layers of each map's network.
        context_dim: Width of h; as many as the code has dimensions by default.

    Raises:
        ValueError: a number is below 1.

    Examples:
        >>> FlowPosterior(maps=1).context(3)
        3
    """

    def __init__(
        self,
        kind: FlowKind = "affine",
        maps: int = 2,
        hidden_dims: tuple[int, ...] = (128,),
        context_dim: int | None = None,
    ) -> None:
        check_flow(maps, hidden_dims)
        if context_dim is not None and context_dim < 1:
            raise ValueError(f"context_dim is {context_dim}; it must be at least 1")
        self.kind: FlowKind = kind
        self.maps = maps
        self.hidden_dims = hidden_dims
        self.context_dim = context_dim

    def context(self, d: int) -> int:
        """Width of the context for codes of d dimensions."""
        return self.context_dim or d

    def build(self, d: int) -> AutoregressiveFlow:
        """The flow for codes of d dimensions."""
        return AutoregressiveFlow(self.kind, d, self.context(d), self.maps, self.hidden_dims)
