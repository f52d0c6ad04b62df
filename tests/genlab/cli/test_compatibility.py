import pytest

from datamodules import ImageDataModule, data_modules
from genlab.cli.compatibility import check_images, check_labels, fits
from genlab.runs.errors import UsageError
from lit_models import VAE, CycleGAN, Pix2Pix, StyleTransfer, TextureSynthesis
from lit_models.common.module import GenerativeModule
from lit_models.common.translators import ResNetTranslator


class VAEOfAngles(VAE):
    needs_label = "angle"


MODELS = {
    "VAE": lambda: VAE(latent_dim=2),
    "model of angles": lambda: VAEOfAngles(latent_dim=2),
    "both ways": lambda: CycleGAN(generator=ResNetTranslator(channels=4)),
    "one way": Pix2Pix,
    "texture": TextureSynthesis,
    "style": StyleTransfer,
}
ARGUMENT = {"TorchvisionDataModule": "FashionMNIST"}
"""First argument of data modules that know which there are."""


@pytest.mark.parametrize("name", MODELS)
def test_the_data_modules_that_a_refusal_names_are_those_that_are_accepted(name: str):
    model = MODELS[name]()
    accepted, advice = set(), set()
    for kind_name, kind in data_modules().items():
        try:
            check(model, kind(ARGUMENT.get(kind_name, "somewhere")))  # type: ignore[arg-type]
        except UsageError as error:
            problem, _, named = str(error).partition("; use --data ")
            assert kind_name in problem
            advice.add(named)
        else:
            accepted.add(kind_name)
    assert len(advice) == 1 and set(advice.pop().split(" or ")) == accepted
    assert accepted == {kind_name for kind_name, kind in data_modules().items() if fits(model, kind)}


def check(model: GenerativeModule, data: ImageDataModule) -> None:
    check_images(model, data)
    check_labels(model, data)


def test_a_data_module_that_lacks_a_declaration_is_named():
    class Bare(ImageDataModule):
        image_shape = (1, 4, 4)

        def read(self) -> dict[str, object]:  # type: ignore[override]
            return {}

    with pytest.raises(UsageError, match="^the class Bare must define name and classes, as every data module does$"):
        check_images(MODELS["VAE"](), Bare())
