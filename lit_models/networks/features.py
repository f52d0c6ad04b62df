from torch import nn


class FeatureNetwork(nn.Module):
    """Images, N x C x H x W, to features, N x out_dim."""

    out_dim: int
