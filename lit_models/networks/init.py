from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def dcgan_init(network: nn.Module, std: float = 0.02) -> nn.Module:
    """Weights N(0, std), those of batch norms N(1, std), biases 0 (Radford et al. 2015, 1511.06434, section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            nn.init.normal_(module.weight, 0.0, std)
        elif isinstance(module, _BatchNorm) and module.affine:
            nn.init.normal_(module.weight, 1.0, std)
        bias = getattr(module, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)
    return network
