"""What `python -m studies.gpu` measures and trains."""

from dataclasses import dataclass

BF16 = "--trainer.precision=bf16-mixed"
SETTINGS = {
    "32-true": ["--trainer.precision=32-true"],
    "bf16-mixed": [BF16],
    "bf16-mixed, compiled": [BF16, "--run.compile=default"],
}
"""Settings in which the speed is measured, each with its options of train.py."""
MODELS = {
    "Autoencoder of depth 1": ["--config=configs/autoencoder_mnist.yaml", "--model.depth=1"],
    "Autoencoder of depth 3": ["--config=configs/autoencoder_mnist.yaml", "--model.depth=3"],
    "VAE": ["--config=configs/vae_mnist.yaml"],
    "GAN": ["--config=configs/gan_mnist.yaml"],
    "AC-GAN on CIFAR-10": ["--config=configs/acgan_cifar10.yaml"],
    "DDPM": ["--config=configs/ddpm_mnist.yaml"],
    "ScoreModel": ["--config=configs/scoremodel_mnist.yaml"],
    "Glow": ["--config=configs/glow_mnist.yaml"],
    "Classifier": ["--config=configs/classifier_mnist.yaml"],
}
"""Models whose speed is measured, the most important first, each with its options of train.py."""
SAMPLED = ("VAE", "GAN", "AC-GAN on CIFAR-10", "DDPM", "ScoreModel", "Glow")
WORKERS = (1, 2, 4, 8, 16)
PACKS = (1, 4, 16, 64)


@dataclass(frozen=True)
class Training:
    """A training that takes too long on a CPU.

    Args:
        name: Name of the run.
        config: Stem of its config.
        metrics: Metrics in the table.
        seconds: A guess of how long it takes, for the time before its speed is measured.
        options: Options of train.py.
        speed: The entry of MODELS whose speed tells how long it takes; "" for the guess.
        steps: Number of training batches.
    """

    name: str
    config: str
    metrics: tuple[str, ...]
    seconds: float
    options: tuple[str, ...] = ()
    speed: str = ""
    steps: int = 0

    @property
    def label(self) -> str:
        """What it is called in the table."""
        return f"{self.config}, {self.name}"

    @property
    def args(self) -> list[str]:
        """Options of train.py."""
        return [f"--config=configs/{self.config}.yaml", *self.options]


QUALITY = ("test/frechet_classifier", "test/modes", "test/modes_kl")


def _acgan(seed: int) -> Training:
    options = (BF16, f"--seed_everything={seed}")
    return Training(f"seed={seed}", "acgan_cifar10", QUALITY, 600, options, "AC-GAN on CIFAR-10", 50_400)


def _seeds(config: str, metrics: tuple[str, ...], seconds: float, *options: str) -> list[Training]:
    return [
        Training(f"seed={seed}", config, metrics, seconds, (*options, f"--seed_everything={seed}")) for seed in range(3)
    ]


TRAININGS = [
    Training("default", "classifier_mnist", ("test/accuracy",), 40),
    Training("default", "classifier_cifar10", ("test/accuracy",), 90),
    _acgan(0),
    Training("seed=0", "gan_cifar10", QUALITY, 240, (BF16,)),
    Training("seed=0", "conditionalgan_cifar10", QUALITY, 240, (BF16,)),
    Training("seed=0", "glow_mnist", ("test/bits_per_dim",), 500, (BF16,), "Glow", 12_000),
    *_seeds("vae_mnist", (*QUALITY, "test/elbo"), 40),
    *_seeds("gan_mnist", QUALITY, 90, BF16),
    _acgan(1),
    _acgan(2),
]
"""The most important first; a classifier before the models that it measures."""
