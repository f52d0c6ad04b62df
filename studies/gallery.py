"""Writes docs/gallery.md and its pictures from the runs of `make gallery`: what each model makes.

python -m studies.gallery
"""

import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageSequence

from genlab.runs.folder import write_whole

DOCS = Path("docs")
PICTURES = DOCS / "img" / "gallery"
WIDEST = 900
HEAD = """# Gallery

What each model makes, every picture by the command above it. `make gallery` runs them all and writes this page.
"""


@dataclass
class Entry:
    """One model: its title, what to look at, the command, its run folder, pictures by name with their captions."""

    title: str
    text: str
    command: str
    run: str
    pictures: dict[str, str] = field(default_factory=dict)


def fit(config: str, *options: str) -> str:
    return " ".join([f"python train.py fit --config configs/{config}.yaml", *options])


def sweep(name: str) -> str:
    return f"python sweep.py run sweeps/{name}.yaml --override trainer.precision=bf16-mixed"


ENTRIES = [
    Entry(
        "Autoencoder",
        "Strided convolutions, ten latent dimensions.",
        "python sweep.py run sweeps/ae_capacity.yaml",
        "ae_capacity/depth=3,latent_dim=10,seed=0",
        {
            "media/reconstructions.png": "Test images above their reconstructions",
            "media/interpolation.png": "Between two test images, the first and the last of each row",
        },
    ),
    Entry(
        "PoolingAutoencoder",
        "Max pooling, one hundred latent dimensions; the codes by their principal components.",
        fit("poolingautoencoder_mnist"),
        "poolingautoencoder_mnist/default",
        {"media/reconstructions.png": "Test images above their reconstructions", "media/latent.png": "Codes by digit"},
    ),
    Entry(
        "LinearAutoencoder",
        "A linear encoder and its transpose learn what a principal component analysis finds.",
        fit("linearautoencoder_mnist"),
        "linearautoencoder_mnist/default",
        {"media/principal_axes.png": "Above: the first axes of PCA; below: their part in the learned subspace"},
    ),
    Entry(
        "SparseAutoencoder",
        "Few of many code units answer to an image.",
        fit("sparseautoencoder_mnist"),
        "sparseautoencoder_mnist/default",
        {"media/reconstructions.png": "Test images above their reconstructions"},
    ),
    Entry(
        "ContractiveAutoencoder",
        "A code that resists small changes of the image.",
        fit("contractiveautoencoder_mnist"),
        "contractiveautoencoder_mnist/default",
        {"media/reconstructions.png": "Test images above their reconstructions"},
    ),
    Entry(
        "DenoisingAutoencoder: noise",
        "Clean images out of noisy ones.",
        "python sweep.py run sweeps/denoising.yaml",
        "denoising/corruption=GaussianNoise,seed=0,strength=0.5",
        {"media/denoising.png": "Clean, corrupted and restored test images"},
    ),
    Entry(
        "DenoisingAutoencoder: a blob painted away",
        "Trained on clean images alone: a blob does not fit through the code. The stand-in for red-eye removal.",
        fit("denoisingautoencoder_colored_mnist"),
        "denoisingautoencoder_colored_mnist/default",
        {"media/denoising.png": "Clean, corrupted and restored test images"},
    ),
    Entry(
        "AnomalyDetector",
        "What it reconstructs badly is no digit as it knows them.",
        fit("anomalydetector_mnist"),
        "anomalydetector_mnist/default",
        {
            "media/anomaly_scores.png": "Scores of digits and of four other kinds of image, with the threshold",
            "media/anomaly_mistakes.png": "What it got wrong",
        },
    ),
    Entry(
        "Labelled sampling",
        "New images of a plain autoencoder, by a Gaussian mixture fitted to its codes; labels by a classifier.",
        fit("classifier_mnist")
        + "\npython sample.py runs/ae_capacity/depth=3,latent_dim=10,seed=0/checkpoints/best.ckpt"
        " --classifier runs/classifier_mnist/default/checkpoints/best.ckpt --sort --count 100"
        " --output runs/labelled_samples/default/samples.png",
        "labelled_samples/default",
        {"samples.png": "One class a row, the most probable images first"},
    ),
    Entry(
        "AngleProbe",
        "The angle of a turned digit, read from the code of a frozen autoencoder.",
        fit("autoencoder_rotated_mnist") + "\n" + fit("angleprobe_mnist"),
        "angleprobe_mnist/default",
        {"media/angles.png": "True angles against predicted ones, and the error of each digit"},
    ),
    Entry(
        "VAE",
        "Convolutional, twenty Gaussian latents.",
        fit("vae_mnist"),
        "vae_mnist/default",
        {
            "media/vae_grid.gif": "The same twenty-dimensional codes decoded after each epoch",
            "media/samples.png": "Samples from the prior",
            "media/samples_mixture.png": "Samples from a Gaussian mixture fitted to the codes",
            "media/traversals.png": "One latent dimension a row",
            "media/curves.png": "Loss, reconstruction and divergence, each on its own chart",
        },
    ),
    Entry(
        "VAE of two dimensions",
        "The whole latent space at a glance, on scikit-learn's digits.",
        fit("vae_digits"),
        "vae_digits/default",
        {
            "media/latent_plane.png": "The decoded plane, at the quantiles of the prior",
            "media/vae_latent.gif": "Codes of the same images after each epoch",
        },
    ),
    *(
        Entry(
            f"VAE on coloured digits: {law}",
            text,
            "python sweep.py run sweeps/vae_color.yaml --override model.latent_dim=3 --override model.beta=1",
            f"vae_color/beta=1,latent_dim=3,law={law},seed=0",
            {"media/latent.png": "Codes by digit and by hue", **more},
        )
        for law, text, more in (
            (
                "Gaussian",
                "Three real latents.",
                {"media/color_control.png": "Ten hues asked for, one a row, at 50 clusters"},
            ),
            (
                "GumbelSoftmax",
                "Three variables of twenty categories.",
                {
                    "media/color_control.png": "Ten hues asked for, one a row",
                    "media/combinations_by_hue.png": "All 8,000 combinations, by the hue they decode to",
                },
            ),
            (
                "Joint",
                "Three real latents and three variables of twenty categories.",
                {"media/color_control.png": "Ten hues asked for, one a row, at 50 clusters"},
            ),
        )
    ),
    Entry(
        "WAE",
        "A code without noise, all codes of a batch asked to look like the prior.",
        fit("wae_mnist"),
        "wae_mnist/default",
        {"media/samples.png": "Samples from the prior", "media/samples_mixture.png": "Samples from a fitted mixture"},
    ),
    Entry(
        "GAN",
        "A DCGAN, with a moving average of the generator's weights.",
        fit("gan_mnist", "--trainer.precision bf16-mixed", "--run.name seed=0"),
        "gan_mnist/seed=0",
        {
            "media/gan_grid.gif": "The same draws of the prior after each epoch",
            "media/samples.png": "Samples from the prior",
            "media/nearest.png": "Samples above their nearest training images",
            "media/arithmetic.png": "Arithmetic on z: means of three draws of each class",
            "media/interpolation_z.png": "Walks between two draws of the prior",
            "media/filters.png": "The discriminator's first layer",
            "media/curves.png": "Losses, D's mean outputs, gradient norms; Frechet distance, modes and steadiness",
        },
    ),
    Entry(
        "ConditionalGAN",
        "The label into both networks, by projection in the discriminator.",
        fit("conditionalgan_mnist", "--trainer.precision bf16-mixed", "--run.name default"),
        "conditionalgan_mnist/default",
        {
            "media/conditionalgan_grid.gif": "One draw of the prior a row, one class a column, after each epoch",
            "media/class_grid.png": "The same at the best epoch",
        },
    ),
    Entry(
        "ACGAN",
        "A classifier in the discriminator.",
        fit("acgan_mnist", "--trainer.precision bf16-mixed", "--run.name default"),
        "acgan_mnist/default",
        {"media/class_grid.png": "One draw of the prior a row, one class a column"},
    ),
    Entry(
        "GAN on stacked digits",
        "Three digits in three channels, a thousand modes; the discriminator sees two images at once.",
        fit(
            "gan_stacked_mnist",
            "--trainer.precision bf16-mixed",
            "--run.experiment pacgan",
            "--run.name pack=2,seed=0",
        ),
        "pacgan/pack=2,seed=0",
        {"media/samples.png": "Samples from the prior"},
    ),
    Entry(
        "CycleGAN",
        "Two colourings of digits, learned without a pair.",
        sweep("cyclegan"),
        "cyclegan/cycle_weight=1,identity_weight=0,objective=NonSaturating,precision=bf16-mixed,seed=0,step_order=joint",
        {
            "media/cyclegan_grid.gif": "Validation images, each beside its translation, after each epoch",
            "media/translations.png": "Test images, translations, back again, and the truth; both ways",
            "media/color_confusion_ab.png": "Hues asked for against those obtained",
        },
    ),
    Entry(
        "Pix2Pix",
        "From outlines to coloured digits, learned from pairs.",
        sweep("pix2pix"),
        "pix2pix/adversarial_weight=1,l1_weight=100,precision=bf16-mixed,seed=0,source=edges",
        {"media/translations.png": "Outlines, what is made of them, and the truth"},
    ),
    Entry(
        "SRGAN",
        "Digits of 7 x 7 pixels, four times as large.",
        sweep("srgan"),
        "srgan/adversarial_weight=0.001,factor=4,noise_channels=0,perceptual_weight=0.1,precision=bf16-mixed,seed=0",
        {"media/translations.png": "What is given, its bicubic enlargement, what is made of it, and the truth"},
    ),
    Entry(
        "RestorationGAN",
        "Noise of standard deviation 0.5 taken off, learned without a pair.",
        sweep("restoration"),
        "restoration/noise=0.5,precision=bf16-mixed,residual_weight=10,seed=0,spectrum_weight=0.1",
        {"media/translations.png": "Noisy digits, what is made of them, and the truth"},
    ),
    Entry(
        "GLO",
        "A code learned for each training image, with neither encoder nor discriminator; new images by the Gaussian"
        " fitted to the codes.",
        fit("glo_mnist", "--trainer.precision bf16-mixed", "--run.name default"),
        "glo_mnist/default",
        {
            "media/samples.png": "Samples from the fitted Gaussian",
            "media/reconstructions.png": "Test images above what their codes, found by descent, are decoded to",
            "media/interpolation.png": "Between two test images, the first and the last of each row",
            "media/glo_grid.gif": "Samples after each epoch",
        },
    ),
    Entry(
        "Glow",
        "An invertible network with an exact likelihood: a code is as large as its image, and decodes to it again.",
        fit("glow_mnist", "--trainer.precision bf16-mixed", "--run.name default"),
        "glow_mnist/default",
        {
            "media/samples.png": "Samples",
            "media/interpolation.png": "Between two test images, the first and the last of each row",
            "media/glow_grid.gif": "Samples after each epoch",
        },
    ),
    Entry(
        "DDPM",
        "Images out of noise in fifty steps, by a network that sees the noise in them.",
        fit("ddpm_mnist", "--trainer.precision bf16-mixed", "--run.name default"),
        "ddpm_mnist/default",
        {
            "media/samples.png": "Samples",
            "media/ddpm_grid.gif": "Samples after each epoch",
        },
    ),
    Entry(
        "ScoreModel",
        "Images by annealed Langevin dynamics along the score of fifty levels of noise.",
        fit("scoremodel_mnist", "--trainer.precision bf16-mixed", "--run.name default"),
        "scoremodel_mnist/default",
        {"media/samples.png": "Samples", "media/scoremodel_grid.gif": "Samples after each epoch"},
    ),
    Entry(
        "TextureSynthesis",
        "Other images of three textures, by the Gram matrices of VGG-19 with random weights.",
        fit("texture", "--trainer.precision bf16-mixed", "--run.name default"),
        "texture/default",
        {
            "media/results.png": "Pictures that genlab draws, above what is made of them",
            "media/texturesynthesis_grid.gif": "On the way",
        },
    ),
    Entry(
        "FeatureInversion",
        "What the fourth block of VGG-19 with random weights tells of an image.",
        fit("inversion", "--trainer.precision bf16-mixed", "--run.name default"),
        "inversion/default",
        {
            "media/results.png": "Pictures that genlab draws, above the images that have their features",
            "media/featureinversion_grid.gif": "On the way",
        },
    ),
    Entry(
        "StyleTransfer",
        "Three scenes in the style of two paintings, by VGG-19 with random weights.",
        fit("style", "--trainer.precision bf16-mixed", "--run.name default"),
        "style/default",
        {
            "media/results.png": "Scenes and paintings that genlab draws, and the scenes in the paintings' styles",
            "media/styletransfer_grid.gif": "On the way",
        },
    ),
]


def shrunk(source: Path, target: Path) -> None:
    """Copies a picture, made no wider than the page: in few colours, or a GIF with its frames and their durations."""
    with Image.open(source) as picture:
        if picture.width <= WIDEST:
            target.write_bytes(source.read_bytes())
            return
        size = (WIDEST, round(picture.height * WIDEST / picture.width))
        frames = [
            frame.convert("RGB").resize(size, Image.Resampling.LANCZOS) for frame in ImageSequence.Iterator(picture)
        ]
        durations = [frame.info.get("duration", 100) for frame in ImageSequence.Iterator(picture)]
    if len(frames) == 1:
        few_colours(frames[0]).save(target, optimize=True)
        return
    frames[0].save(target, optimize=True, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def few_colours(picture: Image.Image) -> Image.Image:
    """An RGB picture that is grey in one channel, any other in 256 colours: half the bytes or fewer."""
    grey = picture.convert("L")
    if grey.convert("RGB").tobytes() == picture.tobytes():
        return grey
    return picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)


def section(entry: Entry, root: Path) -> str:
    """The entry as Markdown; its pictures are copied beside the page."""
    lines = [f"## {entry.title}", "", entry.text, "", "```", entry.command, "```", ""]
    for name, caption in entry.pictures.items():
        source = root / entry.run / name
        target = PICTURES / re.sub(r"[=,/]", "_", f"{entry.run}/{Path(name).name}")
        shrunk(source, target)
        lines += [f"![{caption}](img/gallery/{target.name})", "", f"*{caption}*", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs")
    root = parser.parse_args().root
    missing = [e.command for e in ENTRIES if not all((root / e.run / name).is_file() for name in e.pictures)]
    if missing:
        print("error: some runs are missing; these commands make them:", *missing, sep="\n", file=sys.stderr)
        return 2
    PICTURES.mkdir(parents=True, exist_ok=True)
    write_whole(DOCS / "gallery.md", HEAD + "\n" + "\n".join(section(entry, root) for entry in ENTRIES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
