from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.evaluation.classifier import has_classes
from genlab.latents import batch_size_of, encode_all
from genlab.metrics.category_accuracy import CategoryAccuracy
from lit_models.common.capabilities import Encodes, HasLatentBlocks, LatentBlock
from lit_models.losses.classification import class_of


class CategoryMatch(Callback):
    """Logs `test/category_accuracy`: how well a categorical variable, learned without labels, finds the classes.

    It is the share of test images whose category is the one matched to their class, categories and classes matched one
    to one so that the share is largest. Only models whose code has exactly one categorical variable have it, such as
    InfoGAN, and only data with classes.

    Args:
        num_images: Test images that are encoded, chosen at random but always the same; 0 turns the metric off.
    """

    def __init__(self, num_images: int = 10000) -> None:
        self.num_images = num_images

    @torch.no_grad()
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model, data = pl_module, trainer.datamodule  # type: ignore[attr-defined]
        block = learned_category(model)
        if block is None or not has_classes(data) or self.num_images < 1:
            return
        metric = CategoryAccuracy(block.categories, data.num_classes).to(model.device)
        share = slice(trainer.global_rank, None, trainer.world_size)
        for images, labels in data.example_batches("test", self.num_images, batch_size_of(model), share):
            one_hot = encode_all(model, images)[:, block.start : block.stop]
            metric.update(one_hot.argmax(dim=1), class_of(labels).to(one_hot.device))
        model.log("test/category_accuracy", metric.compute().float())  # all processes have the same value


def learned_category(model: Any) -> LatentBlock | None:
    """The columns of the only categorical variable of a code that was learned without labels, if there is one."""
    applies = isinstance(model, Encodes) and isinstance(model, HasLatentBlocks)
    if not applies or model.learns_labels:
        return None
    blocks = [block for block in model.latent_blocks() if block.kind == "categorical"]
    return blocks[0] if len(blocks) == 1 and blocks[0].num_variables == 1 else None
