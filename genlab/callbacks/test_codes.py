from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from genlab.devices import float64_device
from genlab.latents import encode_examples
from lit_models.common.capabilities import Encodes


class TestCodes(Callback):
    """Keeps the codes of the test images during a test, so that they are computed once for all callbacks.

    They are those that the test steps compute, if these encode each batch by the network of the encoder. Else the
    images are encoded when codes are first asked for. Several processes keep nothing: each has its own test images.
    """

    __test__ = False  # this is no class of tests

    def __init__(self) -> None:
        self._codes: Tensor | None = None
        """Codes of the first of the images that `examples` returns, in its order."""
        self._batches: list[Tensor] = []
        self._images: Tensor | None = None
        self._hook: RemovableHandle | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._forget()
        if isinstance(pl_module, Encodes) and trainer.world_size == 1:
            self._hook = pl_module.encoder_network().register_forward_hook(self._note)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._images = batch[0]

    def _note(self, network: object, inputs: tuple[Any, ...], output: Any) -> None:
        """Keeps the codes of the current batch, once."""
        if inputs and inputs[0] is self._images and output.dtype == torch.float32:
            self._images = None
            self._batches.append(output.detach())

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data, encoded = trainer.datamodule, sum(map(len, self._batches))  # type: ignore[attr-defined]
        if encoded and encoded == data.number_of_images("test"):
            codes = torch.cat(self._batches)
            self._codes = codes[data.example_positions("test", encoded).to(codes.device)]
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._forget()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._forget()

    def codes(self, trainer: Trainer, model: Any, n: int) -> Tensor:
        """The codes of `n` test images, or of all if there are fewer."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if self._codes is None or len(self._codes) < min(n, data.number_of_images("test")):
            self._codes = encode_examples(model, data, "test", n)
        return self._codes[:n]

    def _stop(self) -> None:
        """Ends the observation of the encoder."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._images = None
        self._batches = []

    def _forget(self) -> None:
        self._stop()
        self._codes = None


def encode_test_images(trainer: Trainer, model: Any, n: int, part: slice = slice(None)) -> Tensor:
    """Codes of `n` test images, those of `data.examples("test", n)`, or of a part of them: N x d, float32.

    They are computed once in a test if `TestCodes` is among the callbacks.
    """
    kept = next((callback for callback in trainer.callbacks if isinstance(callback, TestCodes)), None)  # type: ignore[attr-defined]
    if kept is None or trainer.world_size > 1:
        return encode_examples(model, trainer.datamodule, "test", n, part)  # type: ignore[attr-defined]
    return kept.codes(trainer, model, n)[part]


def encode_share(trainer: Trainer, model: Any, n: int) -> Tensor:
    """This process's share of the codes of `n` test images: N x d, float32, on a device with float64."""
    codes = encode_test_images(trainer, model, n, slice(trainer.global_rank, None, trainer.world_size))
    return codes.to(float64_device(codes.device))
