from lightning import LightningModule, Trainer

from genlab.callbacks.picture import PictureCallback
from genlab.callbacks.test_codes import encode_test_images
from genlab.figures import scatter_figure, second_label_name
from genlab.latent_planes import project_to_plane
from genlab.latents import latent_blocks
from genlab.media import save_picture
from lit_models.common.capabilities import Encodes


class LatentScatter(PictureCallback):
    """Saves media/latent.png: a scatter plot of the codes of test images, coloured by class.

    Labels with a second column, an angle, have a second plot coloured by it. Two-dimensional codes are drawn as they
    are, others on their first two principal components. A little noise separates the points of categorical codes.

    Args:
        num_images: Test images whose codes are drawn, chosen at random but always the same; 0 for no picture.
    """

    def __init__(self, num_images: int = 2000) -> None:
        self.num_images = num_images

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Encodes) or self.num_images < 2:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        _, labels = data.examples("test", self.num_images)
        codes = encode_test_images(trainer, pl_module, self.num_images)
        if codes.shape[1] < 2:
            return
        categorical = all(block.kind == "categorical" for block in latent_blocks(pl_module, codes.shape[1]))
        points, names = project_to_plane(codes, categorical)
        figure = scatter_figure(points, names, labels.cpu(), data.classes, second_label_name(data))
        figure.suptitle(f"codes of {len(codes):,} test images", fontsize=11)
        save_picture(trainer, "latent", figure)
