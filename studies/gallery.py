"""Writes docs/gallery.md and its pictures, docs/img/gallery, from the runs of `make gallery`.

python -m studies.gallery
python -m studies.gallery --text-only
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageSequence

from genlab.runs.errors import UsageError
from genlab.runs.folder import write_atomically
from studies.command import BF16, fit_command, make_parser, run_command, sweep_command
from studies.page import DOCS, check_docs

PICTURES = DOCS / "img" / "gallery"
MAX_WIDTH = 900
HEAD = """# Gallery

Pictures of what each model makes. The command above a picture makes the run that the picture comes from. `make gallery`
runs all commands and writes this page. The measured scores are in [Results](results.md).
"""


@dataclass
class Entry:
    """A section of the page.

    Args:
        title: Heading.
        text: What the model does.
        command: Command that makes the run.
        run: Folder of the run below the folder of all runs.
        pictures: Caption of each picture, by its path below the run.
    """

    title: str
    text: str
    command: str
    run: str
    pictures: dict[str, str] = field(default_factory=dict)

    def target(self, picture: str) -> Path:
        """Returns where docs/ has a picture of the run."""
        return PICTURES / re.sub(r"[=,/]", "_", f"{self.run}/{Path(picture).name}")


EMOJI = "npm pack emoji-datasource-google@16.0.0\npython -m studies.emoji emoji-datasource-google-16.0.0.tgz data/emoji"


def emoji_command(model: str, *options: str) -> str:
    """Returns the command that trains a model by configs/<model>_image_folder.yaml on the folder of emoji."""
    named = f"--run.experiment {model}_emoji --run.name default"
    return fit_command(f"{model}_image_folder", "--data.folder data/emoji", BF16, *options, named)


HALVED = "--override trainer.precision=bf16-mixed"
ENTRIES = [
    Entry(
        "Autoencoder",
        "An autoencoder with strided convolutions and ten latent dimensions.",
        sweep_command("ae_capacity"),
        "ae_capacity/depth=3,latent_dim=10,seed=0",
        {
            "media/reconstructions.png": "Test images above their reconstructions",
            "media/interpolation.png": "Interpolation between two test images, the first and the last of each row",
        },
    ),
    Entry(
        "PoolingAutoencoder",
        "An autoencoder with max pooling and one hundred latent dimensions. The picture of the codes shows their"
        " principal components.",
        fit_command("poolingautoencoder_mnist"),
        "poolingautoencoder_mnist/default",
        {
            "media/reconstructions.png": "Test images above their reconstructions",
            "media/latent.png": "Codes, coloured by digit",
        },
    ),
    Entry(
        "LinearAutoencoder",
        "A linear encoder and its transpose learn the subspace that principal component analysis (PCA) finds.",
        fit_command("linearautoencoder_mnist"),
        "linearautoencoder_mnist/default",
        {"media/principal_axes.png": "The first axes of PCA (above), projected onto the learned subspace (below)"},
    ),
    Entry(
        "SparseAutoencoder",
        "An autoencoder whose code has many units, of which only few are active for an image.",
        fit_command("sparseautoencoder_mnist"),
        "sparseautoencoder_mnist/default",
        {"media/reconstructions.png": "Test images above their reconstructions"},
    ),
    Entry(
        "ContractiveAutoencoder",
        "An autoencoder whose code changes little when the image changes a little.",
        fit_command("contractiveautoencoder_mnist"),
        "contractiveautoencoder_mnist/default",
        {"media/reconstructions.png": "Test images above their reconstructions"},
    ),
    Entry(
        "DenoisingAutoencoder: noise",
        "An autoencoder that is trained to restore clean images from noisy ones.",
        sweep_command("denoising"),
        "denoising/corruption=GaussianNoise,seed=0,strength=0.5",
        {"media/denoising.png": "Clean, corrupted and restored test images"},
    ),
    Entry(
        "DenoisingAutoencoder: blob removal",
        "An autoencoder that is trained on clean images alone. Its code has no room for a blob, so that the blob"
        " disappears. This stands in for red-eye removal.",
        fit_command("denoisingautoencoder_colored_mnist"),
        "denoisingautoencoder_colored_mnist/default",
        {"media/denoising.png": "Clean, corrupted and restored test images"},
    ),
    Entry(
        "AnomalyDetector",
        "An autoencoder of digits that reports an image as an anomaly when its reconstruction error is large.",
        fit_command("anomalydetector_mnist"),
        "anomalydetector_mnist/default",
        {
            "media/anomaly_scores.png": "Scores of digits and of four other kinds of images, with the threshold",
            "media/anomaly_mistakes.png": "Images that it classifies wrongly",
        },
    ),
    Entry(
        "Labelled sampling",
        "New images from a plain autoencoder. Their codes are drawn from a Gaussian mixture that is fitted to the codes"
        " of training images. A classifier labels the images.",
        fit_command("classifier_mnist")
        + "\npython sample.py runs/ae_capacity/depth=3,latent_dim=10,seed=0/checkpoints/best.ckpt"
        " --classifier runs/classifier_mnist/default/checkpoints/best.ckpt --sort --count 100"
        " --output runs/labelled_samples/default/samples.png",
        "labelled_samples/default",
        {"samples.png": "One class per row, the images with the most probable labels first"},
    ),
    Entry(
        "AngleProbe",
        "Predicts the rotation angle of a digit from its code by a frozen autoencoder.",
        fit_command("autoencoder_rotated_mnist") + "\n" + fit_command("angleprobe_mnist"),
        "angleprobe_mnist/default",
        {"media/angles.png": "True angles against predicted angles, and the error for each digit"},
    ),
    Entry(
        "VAE",
        "A convolutional variational autoencoder with twenty Gaussian latent dimensions.",
        fit_command("vae_mnist"),
        "vae_mnist/default",
        {
            "media/vae_grid.gif": "The same twenty-dimensional codes, decoded after each epoch",
            "media/samples.png": "Samples from the prior",
            "media/samples_mixture.png": "Samples from a Gaussian mixture fitted to the codes of training images",
            "media/traversals.png": "Traversals: one latent dimension per row",
            "media/curves.png": "Loss, reconstruction term and KL divergence, each on its own chart",
        },
    ),
    Entry(
        "VAE with two latent dimensions",
        "With two latent dimensions the whole latent space fits into one picture. Trained on scikit-learn's digits.",
        fit_command("vae_digits"),
        "vae_digits/default",
        {
            "media/latent_plane.png": "The latent plane, decoded on a grid at the quantiles of the prior",
            "media/vae_latent.gif": "Codes of the same images after each epoch",
        },
    ),
    *(
        Entry(
            f"VAE on coloured digits: {distribution}",
            text,
            sweep_command("vae_color", "--override model.latent_dim=3 --override model.beta=1"),
            f"vae_color/beta=1,latent_dim=3,latent_distribution={distribution},seed=0",
            {"media/latent.png": "Codes, coloured by digit and by hue", **more},
        )
        for distribution, text, more in (
            (
                "Gaussian",
                "Three Gaussian latent dimensions.",
                {"media/color_control.png": "Samples of ten requested hues, one per row, with 50 clusters"},
            ),
            (
                "GumbelSoftmax",
                "Three categorical latent variables with twenty categories each.",
                {
                    "media/color_control.png": "Samples of ten requested hues, one per row",
                    "media/combinations_by_hue.png": "All 8,000 combinations of categories, by their decoded hue",
                },
            ),
            (
                "Joint",
                "Three Gaussian latent dimensions and three categorical latent variables with twenty categories each.",
                {"media/color_control.png": "Samples of ten requested hues, one per row, with 50 clusters"},
            ),
        )
    ),
    Entry(
        "WAE",
        "A Wasserstein autoencoder. The encoder is deterministic, and the codes of a whole batch are trained to follow"
        " the prior.",
        fit_command("wae_mnist"),
        "wae_mnist/default",
        {
            "media/samples.png": "Samples from the prior",
            "media/samples_mixture.png": "Samples from a Gaussian mixture fitted to the codes of training images",
        },
    ),
    Entry(
        "GAN",
        "A DCGAN. Samples use an exponential moving average (EMA) of the generator's weights.",
        fit_command("gan_mnist", BF16, "--run.name seed=0"),
        "gan_mnist/seed=0",
        {
            "media/gan_grid.gif": "Samples for the same draws from the prior after each epoch",
            "media/samples.png": "Samples from the prior",
            "media/nearest.png": "Samples above their nearest training images",
            "media/arithmetic.png": "Arithmetic on latent codes: each operand is the mean of three draws of a class",
            "media/interpolation_z.png": "Interpolation between two draws from the prior",
            "media/filters.png": "Filters of the discriminator's first layer",
            "media/curves.png": "Losses, D's mean outputs, gradient norms; Frechet distance, modes, loss scatter",
        },
    ),
    Entry(
        "ConditionalGAN",
        "A GAN whose two networks take the label; the discriminator takes it by projection.",
        fit_command("conditionalgan_mnist", BF16, "--run.name default"),
        "conditionalgan_mnist/default",
        {
            "media/conditionalgan_grid.gif": "One draw from the prior per row, one class per column, after each epoch",
            "media/class_grid.png": "The same with the best weights",
        },
    ),
    Entry(
        "ACGAN",
        "A conditional GAN whose discriminator also classifies images.",
        fit_command("acgan_mnist", BF16, "--run.name default"),
        "acgan_mnist/default",
        {"media/class_grid.png": "One draw from the prior per row, one class per column"},
    ),
    Entry(
        "GAN on stacked digits",
        "Each image has three digits in three channels, which makes a thousand modes. The discriminator sees two images"
        " at once.",
        fit_command(
            "gan_stacked_mnist",
            BF16,
            "--run.experiment pacgan",
            "--run.name pack=2,seed=0",
        ),
        "pacgan/pack=2,seed=0",
        {"media/samples.png": "Samples from the prior"},
    ),
    Entry(
        "CycleGAN",
        "Translates digits between two colourings. It is trained without pairs.",
        sweep_command("cyclegan", HALVED),
        "cyclegan/cycle_weight=1,identity_weight=0,objective=NonSaturating,precision=bf16-mixed,seed=0,step_order=joint",
        {
            "media/cyclegan_grid.gif": "Validation images, each beside its translation, after each epoch",
            "media/translations.png": "Test images, translations, translations back, and the truth; both directions",
            "media/color_confusion_ab.png": "True hues against the hues of the translations",
        },
    ),
    Entry(
        "Pix2Pix",
        "Translates outlines to coloured digits. It is trained on pairs.",
        sweep_command("pix2pix", HALVED),
        "pix2pix/adversarial_weight=1,l1_weight=100,precision=bf16-mixed,seed=0,source=edges",
        {"media/translations.png": "Outlines, their translations, and the true images"},
    ),
    Entry(
        "SRGAN",
        "Enlarges digits of 7 x 7 pixels by a factor of four.",
        sweep_command("srgan", HALVED),
        "srgan/adversarial_weight=0.001,factor=4,noise_channels=0,perceptual_weight=0.1,precision=bf16-mixed,seed=0",
        {"media/translations.png": "Input, its bicubic enlargement, the output, and the true image"},
    ),
    Entry(
        "RestorationGAN",
        "Removes noise of standard deviation 0.5. It is trained without pairs.",
        sweep_command("restoration", HALVED),
        "restoration/noise=0.5,precision=bf16-mixed,residual_weight=10,seed=0,spectrum_weight=0.1",
        {"media/translations.png": "Noisy digits, their restorations, and the true images"},
    ),
    Entry(
        "GLO",
        "Learns a generator and a code for each training image, without an encoder or a discriminator. New images come"
        " from a Gaussian fitted to the codes.",
        fit_command("glo_mnist", BF16, "--run.name default"),
        "glo_mnist/default",
        {
            "media/samples.png": "Samples from the fitted Gaussian",
            "media/reconstructions.png": "Test images above reconstructions from codes that gradient descent finds",
            "media/interpolation.png": "Interpolation between two test images, the first and the last of each row",
            "media/glo_grid.gif": "Samples after each epoch",
        },
    ),
    Entry(
        "Glow",
        "An invertible network with an exact likelihood. A code has as many numbers as its image and decodes to the"
        " same image.",
        fit_command("glow_mnist", BF16, "--run.name default"),
        "glow_mnist/default",
        {
            "media/samples.png": "Samples",
            "media/interpolation.png": "Interpolation between two test images, the first and the last of each row",
            "media/glow_grid.gif": "Samples after each epoch",
        },
    ),
    Entry(
        "DDPM",
        "Makes images from noise in fifty steps, with a network that predicts the noise in an image.",
        fit_command("ddpm_mnist", BF16, "--run.name default"),
        "ddpm_mnist/default",
        {
            "media/samples.png": "Samples",
            "media/ddpm_grid.gif": "Samples after each epoch",
        },
    ),
    Entry(
        "ScoreModel",
        "Makes images by annealed Langevin dynamics, with the scores of fifty noise levels.",
        fit_command("scoremodel_mnist", BF16, "--run.name default"),
        "scoremodel_mnist/default",
        {"media/samples.png": "Samples", "media/scoremodel_grid.gif": "Samples after each epoch"},
    ),
    Entry(
        "TextureSynthesis",
        "Makes new images of three textures by matching the Gram matrices of VGG-19 with random weights.",
        fit_command("texture", BF16, "--run.name default"),
        "texture/default",
        {
            "media/generated_images.png": "Textures that genlab draws, above the images made from them",
            "media/texturesynthesis_grid.gif": "The images during the optimization",
        },
    ),
    Entry(
        "FeatureInversion",
        "Reconstructs an image from its features in the fourth block of VGG-19 with random weights.",
        fit_command("inversion", BF16, "--run.name default"),
        "inversion/default",
        {
            "media/generated_images.png": "Pictures that genlab draws, above images reconstructed from their features",
            "media/featureinversion_grid.gif": "The images during the optimization",
        },
    ),
    Entry(
        "StyleTransfer",
        "Three scenes in the style of two paintings, with the features of VGG-19 with random weights.",
        fit_command("style", BF16, "--run.name default"),
        "style/default",
        {
            "media/generated_images.png": "Scenes and paintings that genlab draws, and the scenes in their styles",
            "media/styletransfer_grid.gif": "The images during the optimization",
        },
    ),
    Entry(
        "Your own images: VAE",
        "The first of three models of a folder of 3,781 pictures, 3 x 64 x 64: Google's Noto emoji (Apache License 2.0)"
        " with nine classes. The first two commands make the folder. 40 epochs of 95 batches, 0.29 s each on one"
        " core, are 18 minutes.",
        EMOJI + "\n" + emoji_command("vae"),
        "vae_emoji/default",
        {
            "media/reconstructions.png": "Test images above their reconstructions",
            "media/samples_mixture.png": "Samples from a Gaussian mixture fitted to the codes of training images",
        },
    ),
    Entry(
        "Your own images: GAN",
        "Residual networks with spectral normalisation. An evaluation classifier of the nine classes is trained first."
        " 30 epochs of 95 batches, 0.34 s each on one core, are 16 minutes, and the classifier takes about three more."
        " The test of 500 samples gives a Frechet distance of 33.8, precision 0.78 and recall 0.49.",
        emoji_command("gan", "--quality.classifier train", "--trainer.max_epochs 30"),
        "gan_emoji/default",
        {
            "media/samples.png": "Samples from the prior",
            "media/nearest.png": "Samples above their nearest training images",
        },
    ),
    Entry(
        "Your own images: DDPM",
        "A U-Net on patches of 2 x 2 pixels. 40 epochs of 95 batches, 0.75 s each on one core, are 48"
        " minutes. That is short for a diffusion model of pictures: colours and parts of faces are there, whole emoji"
        " and their white background are rare.",
        emoji_command("ddpm", "--trainer.max_epochs 40")
        + "\npython sample.py runs/ddpm_emoji/default/checkpoints/best.ckpt --count 36 --sampler Ancestral"
        " --sampler-steps 200 --output runs/ddpm_emoji/ancestral/samples.png",
        "ddpm_emoji/ancestral",
        {"samples.png": "Samples"},
    ),
]


def copy_picture(source: Path, target: Path) -> None:
    """Copies a picture, or a GIF with its frames and their durations, scaled down to at most MAX_WIDTH pixels."""
    with Image.open(source) as picture:
        if picture.width <= MAX_WIDTH:
            target.write_bytes(source.read_bytes())
            return
        size = (MAX_WIDTH, round(picture.height * MAX_WIDTH / picture.width))
        frames = [
            frame.convert("RGB").resize(size, Image.Resampling.LANCZOS) for frame in ImageSequence.Iterator(picture)
        ]
        durations = [frame.info.get("duration", 100) for frame in ImageSequence.Iterator(picture)]
    if len(frames) == 1:
        reduce_colors(frames[0]).save(target, optimize=True)
        return
    frames[0].save(target, optimize=True, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def reduce_colors(picture: Image.Image) -> Image.Image:
    """Converts a grey RGB picture to one channel, and any other to 256 colours; this halves the file or better."""
    grey = picture.convert("L")
    if grey.convert("RGB").tobytes() == picture.tobytes():
        return grey
    return picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)


def section(entry: Entry) -> str:
    """Returns the Markdown of an entry."""
    lines = [f"## {entry.title}", "", entry.text, "", "```", entry.command, "```", ""]
    for name, caption in entry.pictures.items():
        lines += [f"![{caption}](img/gallery/{entry.target(name).name})", "", f"*{caption}*", ""]
    return "\n".join(lines)


def page() -> str:
    """Returns docs/gallery.md."""
    return HEAD + "\n" + "\n".join(section(entry) for entry in ENTRIES)


def copy_pictures(root: Path) -> None:
    """Copies all pictures from the runs to docs/img/gallery.

    Raises:
        UsageError: Some runs are missing, and nothing was copied.
    """
    missing = [e.command for e in ENTRIES if not all((root / e.run / name).is_file() for name in e.pictures)]
    if missing:
        raise UsageError("\n".join([f"{root} lacks some runs; make them:", *dict.fromkeys(missing)]))
    PICTURES.mkdir(parents=True, exist_ok=True)
    for entry in ENTRIES:
        for name in entry.pictures:
            copy_picture(root / entry.run / name, entry.target(name))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--text-only", action="store_true", help="write docs/gallery.md for the pictures that docs/img/gallery has"
    )
    args = parser.parse_args()
    check_docs()
    if not args.text_only:
        copy_pictures(args.root)
    write_atomically(DOCS / "gallery.md", page())


if __name__ == "__main__":
    run_command(main)
