"""The documentation holds: its commands parse, its tutorial and its recipes run, its lists are complete, it builds."""

import ast
import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from lightning import Trainer
from PIL import Image

import datamodules
import lit_models
from datamodules import DataError, ImageDataModule, data_modules
from genlab import callbacks
from genlab.cli.options import MEASURES, PICTURES
from genlab.cli.train import check
from genlab.cli.train import main as train
from genlab.runs.folder import RunOptions, read_summary
from genlab.sampling import cli as sampling
from genlab.sweep import cli as sweeps
from genlab.sweep.parser import load_definition
from lit_models import GenerativeModule
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.component import Component
from tests import HANG_SECONDS, preloaded
from tests.helpers import write_images

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HEADS = [*sorted((ROOT / "configs").glob("*.yaml")), *sorted((ROOT / "sweeps").glob("*.yaml"))]
PROGRAMS = ("train.py", "sweep.py", "sample.py")
CONSOLE = {name: ["train.py", name] for name in ("fit", "validate", "test", "predict")} | {
    "sweep": ["sweep.py"],
    "sample": ["sample.py"],
}
"""Commands of the console script `genlab`, and the programs that they are."""
MOST_LINES = 150
"""Of README.md."""
STANDS_FOR = {
    "FILE": "sweeps/quickstart.yaml",
    "N": "3",
    "CONFIG": "configs/autoencoder_digits.yaml",
    "$STORAGE": "sqlite:///sweep.db",
    "$SCRATCH/runs": "runs",
    "runs/E/R/": "runs/autoencoder_digits/default/",
    "wandb:ENTITY/PROJECT/vae_digits-default:best": "runs/vae_digits/default/checkpoints/best.ckpt",
}
"""Placeholders in commands, and what is parsed in their place."""
ELSEWHERE = {
    *("None", "LightningModule", "LightningDataModule", "ModelCheckpoint", "ValueError", "DataLoader"),
    *("WandbLogger", "TensorBoardLogger", "MLFlowLogger", "RayDDPStrategy", "RayLightningEnvironment"),
    *("TinyAutoencoder", "ShapesDataModule", "PetsDataModule"),
}
"""Classes of other packages, and of the recipes."""
EXAMPLES = re.compile(r"tiny|shapes|pets|my_", re.IGNORECASE)
"""Names of the recipes' examples, which are run by tests of their own."""
BLOCK = re.compile(r"^( *)```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A fenced block of a page.

    Args:
        language: What the fence names; empty for none.
        title: Path of the file that the block holds; empty for none.
        text: The lines.
    """

    language: str
    title: str
    text: str


def blocks(page: Path, heading: str = "") -> list[Block]:
    """The fenced blocks of a page, or of the part of it below one heading."""
    text = page.read_text(encoding="utf-8")
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [Block(language, title, textwrap.dedent(body)) for _, language, title, body in BLOCK.findall(text)]


def file_of(page: str, name: str) -> str:
    return next(block.text for block in blocks(ROOT / "docs" / page) if block.title == name)


def commands(text: str) -> list[list[str]]:
    """The arguments of each command of the project's programs, in shell lines; comments are left out."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # prose with an apostrophe
            continue
        for i, word in enumerate(words):
            if word == "genlab" and words[i + 1 : i + 2] and words[i + 1] in CONSOLE:
                words[i : i + 2] = ["python", *CONSOLE[words[i + 1]]]
        for i, word in enumerate(words):
            if word in PROGRAMS and i and (words[i - 1] == "python" or "torchrun" in words):
                rest = words[i:]
                end = next((k for k, part in enumerate(rest) if part in ("&&", ";", "&", "|", "||", "\\")), len(rest))
                found.append([part.rstrip(";") for part in rest[:end]])
    return found


def documented_commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        inline = [code for code in re.findall(r"`([^`\n]+)`", text) if code.startswith(("python ", "genlab "))]
        shell = [block.text for block in blocks(page) if block.language in ("", "bash")]
        found += [(page.name, command) for code in (*inline, *shell) for command in commands(code)]
    for page in HEADS:
        head = [line[2:] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        found += [(page.name, command) for line in head for command in commands(line.split(", ")[0])]
    return found


def replaced(word: str) -> str:
    for placeholder, value in STANDS_FOR.items():
        word = word.replace(placeholder, value) if "/" in placeholder or word == placeholder else word
    return word


def fault(command: list[str]) -> str | None:
    """What is wrong with a command line; None where it parses."""
    program, *args = (replaced(word) for word in command)
    shows_help = any(word.endswith(("help", "--help-all")) for word in args)
    if program == "train.py" and not shows_help:
        return check(from_config(args))
    parse = {"sample.py": sampling.parser().parse_args, "sweep.py": sweeps.parser().parse_args, "train.py": train}
    try:
        parse[program](args)
    except SystemExit as error:
        return None if error.code == 0 else f"exit status {error.code}"
    return None


def from_config(args: list[str]) -> list[str]:
    """A command that starts from a checkpoint as one that starts from the config which made it."""
    if "--ckpt_path" not in args:
        return args
    i = args.index("--ckpt_path")
    experiment = Path(args[i + 1]).parts[1:2]
    rest = args[:i] + args[i + 2 :]
    return [rest[0], f"--config=configs/{experiment[0]}.yaml", *rest[1:]] if experiment else rest


def is_whole(command: Sequence[str]) -> bool:
    """Whether prose names a command with its arguments, rather than a program, or an option without its value."""
    return (
        len(command) > 2 and command[-1] != "--config" and not any(mark in " ".join(command) for mark in ("...", "<"))
    )


def options(command: Sequence[str]) -> set[tuple[str, ...]]:
    """The options of `fit --config CONFIG`, with the config where they depend on it; other commands as a whole.

    A config alone is no option, as every config is fitted by a test of its own.
    """
    _, *fit, config = command[:4] if len(command) > 3 else ("", "")
    rest = command[4:]
    if fit != ["fit", "--config"] or not (ROOT / config).is_file() or len(rest) % 2:
        return {tuple(command)}
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return {pair if pair[0].startswith(("--trainer.", "--run.")) else (config, *pair) for pair in pairs}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_of_the_documentation_parses(program: str, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = [(page, command) for page, command in documented_commands() if command[0] == program]
    checked = {tuple(command): page for page, command in found if not EXAMPLES.search(" ".join(command))}
    faults, seen = {}, set()
    for command, page in checked.items():
        if is_whole(command) and (new := options(command) - seen):
            faults[" ".join(command)] = page, fault(list(command))
            seen |= new
    assert len(faults) > 5
    wrong = [f"{page}: {command}: {what}" for command, (page, what) in faults.items() if what]
    assert not wrong, "\n".join(wrong)


def parameters() -> set[str]:
    """The names of all options: of models, components, data modules, callbacks, runs, the trainer and Adam."""
    found = [callbacks.__dict__[name] for name in callbacks.__all__]
    found += [RunOptions, AdversarialRecipe, Trainer, torch.optim.Adam]
    for base in (GenerativeModule, Component, ImageDataModule):
        kinds = [base]
        while kinds:
            kind = kinds.pop()
            found.append(kind)
            kinds += kind.__subclasses__()
    return {name for kind in found for name in inspect.signature(kind).parameters} | {*PICTURES, *MEASURES}


def test_every_option_that_the_documentation_names_exists():
    known = parameters() | {"help", "recipe", "*", "callbacks", "checkpoint"}
    missing = set()
    for page in PAGES:
        if page.stem == "changelog":
            continue
        text = page.read_text(encoding="utf-8")
        for option in re.findall(r"(?<![\w-])--(?:model|data|run|trainer|[a-z_]+)\.([a-z][\w.]*)", text):
            missing |= {f"{page.name}: {option}" for part in option.strip(".").split(".") if part not in known}
        for table in re.findall(r"^\| option \|.*\n\|[- |]+\n((?:\|.*\n)+)", text, re.MULTILINE):
            for row in table.splitlines():
                names = re.findall(r"`([a-z_]+)`", row.split("|")[1])
                missing |= {f"{page.name}: {name}" for name in names if name not in known}
    assert not missing, sorted(missing)


def test_every_class_that_the_documentation_names_exists():
    files = [path for package in ("lit_models", "datamodules", "genlab") for path in (ROOT / package).rglob("*.py")]
    known = {
        node.name
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        names = {name for name in re.findall(r"`([A-Z][A-Za-z0-9]+)`", text) if re.search("[a-z]", name)}
        missing = names - known - ELSEWHERE
        assert page.stem == "changelog" or not missing, (page.name, sorted(missing))


def test_every_picture_of_a_run_is_on_its_page():
    text = (ROOT / "docs" / "media.md").read_text(encoding="utf-8")
    drawing = {*PICTURES, "quality", "translation", "color_control", "principal_subspace"}
    assert [name for name in drawing if f"`--{name}." not in text] == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_every_model_and_config_is_on_the_page_of_its_family():
    text = "".join(
        page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "models").glob("*.md") if page.stem != "index"
    )
    kinds = [kind for name in lit_models.__all__ if inspect.isclass(kind := getattr(lit_models, name))]
    names = [kind.__name__ for kind in kinds if issubclass(kind, GenerativeModule) and not inspect.isabstract(kind)]
    configs = [path.stem for path in (ROOT / "configs").glob("*.yaml")]
    assert [name for name in names + configs if f"`{name}`" not in text] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("package", [lit_models, datamodules])
def test_every_public_class_is_on_the_page_of_the_api(package: ModuleType):
    page = (ROOT / "docs" / "api-reference.md").read_text(encoding="utf-8").splitlines()
    classes = [name for name in package.__all__ if inspect.isclass(getattr(package, name))]
    assert [name for name in classes if f"::: {package.__name__}.{name}" not in page] == []


def test_every_data_set_and_sweep_is_on_its_page():
    data = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert [name for name in data_modules() if f"`{name}`" not in data] == []
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    assert [path.stem for path in (ROOT / "sweeps").glob("*.yaml") if f"`{path.stem}`" not in page] == []


def shell(script: str, folder: Path) -> None:
    """Runs commands as a reader does, with a `python` whose libraries are imported already."""
    path = f"{Path(preloaded.python()).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def python(code: str, folder: Path) -> None:
    shell(f"python -c {shlex.quote(code)}", folder)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder with the programs, configs and sweeps in it, whose Python finds the project's packages."""
    for name in (*PROGRAMS, "configs", "sweeps"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_every_command_of_the_tutorial_runs(workplace: Path):
    """With a fifth of the epochs."""
    ran = [block for block in blocks(ROOT / "docs" / "get-started.md") if block.language in ("bash", "python")]
    for block in ran:
        text = re.sub(r"(?<=max_epochs[ =])\d+", lambda epochs: str(max(1, int(epochs[0]) // 5)), block.text)
        shell(text, workplace) if block.language == "bash" else python(text, workplace)
    assert len(ran) > 6 and (workplace / "runs" / "first" / "quickstart" / "report" / "index.html").is_file()
    assert (workplace / "grid.png").is_file()


def shortened(text: str) -> str:
    """Commands with some images, two steps of training, some samples and no pictures of the runs."""
    options = {
        "genlab.example_photos": "--count 30",
        "train.py fit": "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --data.batch_size 4"
        " --quality.num_images 8 --quality.val_images 8 --run.pictures false",
    }
    text = re.sub(r"(?<=--count )\d+", "8", text)
    return re.sub("|".join(options), lambda program: f"{program[0]} {options[program[0]]}", text)


@pytest.mark.slow
def test_every_command_for_your_own_images_runs(workplace: Path):
    ran = [block.text for block in blocks(ROOT / "docs" / "your-own-images.md") if block.language == "bash"]
    for text in ran:
        shell(shortened(text), workplace)
    assert len(ran) == 6
    for made in ("grid.png", "again/flower/0000.png", "codes.csv", "between.png"):
        assert (workplace / made).is_file()


@pytest.mark.slow
def test_the_program_for_ray_train_trains_on_two_workers(workplace: Path):
    pytest.importorskip("pyarrow", reason="Ray Train needs pip install 'ray[train]'")
    (workplace / "ray_train.py").write_text(file_of("cluster.md", "ray_train.py"))
    args = ["fit", "--config=configs/autoencoder_digits.yaml", "--trainer.max_epochs=1", "--run.pictures=false"]
    subprocess.run(
        [sys.executable, "ray_train.py", "2", "cpu", *args, "--run.name=two"],
        cwd=workplace,
        env={**os.environ, "HOME": str(workplace), "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"},
        timeout=HANG_SECONDS,
        check=True,
    )
    (folder,) = (workplace / "runs" / "autoencoder_digits").iterdir()
    summary = read_summary(folder)
    assert folder.name == "two" and summary["state"] == "finished" and summary["hardware"].startswith("2 x")
    assert summary["metrics"].keys() == {"train/mse", "val/mse", "test/mse"}


@pytest.mark.parametrize("page", ["README.md", "docs/python-api.md"])
def test_examples_in_python_run(page: str, workplace: Path):
    code = [block.text for block in blocks(ROOT / page) if block.language == "python"]
    assert code
    python("\n".join(code), workplace)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project's code, to add to."""
    everywhere = shutil.ignore_patterns("__pycache__", ".*", "img", "*.egg-info")
    at_the_top = shutil.ignore_patterns("runs", "data", "wandb", "site", "shared")

    def left_out(folder: str, names: list[str]) -> set[str]:
        return everywhere(folder, names) | (at_the_top(folder, names) if Path(folder) == ROOT else set())

    return Path(shutil.copytree(ROOT, tmp_path / "clone", ignore=left_out))


def add_to_all(path: Path, line: str) -> None:
    """Imports a class in a package, and names it in `__all__`."""
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{line}\n" + text.replace("__all__ = [", f'__all__ = [\n    "{line.rsplit(maxsplit=1)[-1]}",', 1))


def tried(page: str, heading: str) -> str:
    """The commands of a recipe that train and sample, by the programs instead of the console script."""
    text = "\n".join(block.text for block in blocks(ROOT / "docs" / page, heading) if block.language == "")
    return "\n".join(shlex.join(["python", *command]) for command in commands(text))


def follow_model_recipe(clone: Path) -> None:
    source = "lit_models/tiny_autoencoder.py"
    for name in (source, "configs/tinyautoencoder_digits.yaml"):
        (clone / name).write_text(file_of("add-a-model.md", name))
    add_to_all(clone / "lit_models" / "__init__.py", "from lit_models.tiny_autoencoder import TinyAutoencoder")


def follow_data_recipe(clone: Path) -> None:
    for name in ("datamodules/shapes.py", "datamodules/pets.py", "configs/classifier_shapes.yaml"):
        (clone / name).write_text(file_of("add-a-dataset.md", name))
    add_to_all(clone / "datamodules" / "__init__.py", "from datamodules.shapes import ShapesDataModule")
    add_to_all(clone / "datamodules" / "__init__.py", "from datamodules.pets import PetsDataModule")


@pytest.mark.slow
def test_the_recipe_for_a_model_works(clone: Path):
    follow_model_recipe(clone)
    shell(tried("add-a-model.md", "A model in genlab"), clone)
    assert (clone / "runs" / "tiny.png").is_file()


@pytest.mark.slow
def test_the_recipe_for_a_data_set_works(clone: Path):
    follow_data_recipe(clone)
    shell(tried("add-a-dataset.md", "A data set in genlab"), clone)
    assert (clone / "data" / "shapes.npz").is_file()


def test_the_example_of_a_folder_of_images_works(tmp_path: Path, monkeypatch):
    (tmp_path / "pets_example.py").write_text(file_of("add-a-dataset.md", "datamodules/pets.py"))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("pets_example")
    write_images(tmp_path / "pets", ("cat", "dog"))
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    Image.new("L", (90, 70)).save(tmp_path / "pets" / "cat" / "0.JPG")
    data = module.PetsDataModule(root=str(tmp_path))
    data.setup()
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape[1:] == (3, 64, 64) and set(labels.tolist()) == {0, 1}
    assert [len(data._split(split)[2]) for split in ("train", "val", "test")] == [56, 40, 25]

    def refused(message: str, **options: str) -> None:
        with pytest.raises(DataError, match=message):
            module.PetsDataModule(**options).setup()

    other = tmp_path / "other"
    shutil.copytree(tmp_path / "pets", other)
    (other / "dog" / "000.png").write_bytes(b"no image")
    refused(r"dog/000\.png cannot be read as an image", folder=str(other))
    shutil.rmtree(other / "dog")
    refused(r"cannot read .*dog", folder=str(other))
    write_images(other, ("dog",), n=1)
    refused(r"dog has 1 image", folder=str(other))
    (other / "dog" / "000.png").unlink()
    refused(r"dog has no images", folder=str(other))


def test_the_example_of_a_sweep_is_valid(tmp_path: Path, monkeypatch):
    (tmp_path / "my_sweep.yaml").write_text(file_of("sweeps.md", "my_sweep.yaml"))
    monkeypatch.chdir(ROOT)
    page = blocks(ROOT / "docs" / "sweeps.md", "A sweep of your own")
    overrides = [command[4:] for command in commands(page[1].text)]
    assert [len(load_definition(tmp_path / "my_sweep.yaml", given)) for given in overrides] == [4, 12, 4]


@pytest.mark.parametrize(
    ("page", "heading", "source", "made"),
    [
        ("add-a-model.md", "A model", "lit_models/tiny_autoencoder.py", "runs/tiny.png"),
        ("add-a-dataset.md", "A data set", "datamodules/shapes.py", "shapes.png"),
    ],
)
def test_a_package_of_your_own_works(page: str, heading: str, source: str, made: str, workplace: Path):
    heading = f"{heading} in a package of your own"
    script = tried(page, heading)
    package = re.findall(r"(my_\w+)\.[A-Z]", script)[0]
    shown = [block for block in blocks(ROOT / "docs" / page, heading) if block.title]
    for block in shown:
        (workplace / block.title).parent.mkdir(exist_ok=True)
        (workplace / block.title).write_text(block.text)
    example = workplace / package / Path(source).name if shown else workplace / f"{package}.py"
    example.write_text(file_of(page, source))
    shell(script, workplace)
    assert (workplace / made).is_file()


def add_to_page(path: Path, text: str, added: str) -> None:
    """Puts `added` behind a text that is on a page."""
    before = path.read_text()
    assert text in before
    path.write_text(before.replace(text, text + added, 1))


@pytest.mark.slow
def test_what_the_recipes_add_passes_the_shared_tests(clone: Path):
    """Follows both recipes to the letter, with the second example of a data set as well; runs what they tell to run."""
    follow_model_recipe(clone)
    follow_data_recipe(clone)
    tests = clone / "tests"
    add_to_page(tests / "conftest.py", "from tests.helpers import write_npz", ", write_images")
    add_to_page(
        tests / "conftest.py",
        '    write_npz(root / "cifar10.npz", (32, 32, 3))\n',
        "    " + next(b.text for b in blocks(ROOT / "docs" / "add-a-dataset.md") if b.text.startswith("write_images")),
    )
    imports = {
        tests / "test_models.py": "from lit_models import TinyAutoencoder\n",
        tests / "datamodules" / "test_datamodules.py": "from datamodules import PetsDataModule, ShapesDataModule\n",
    }
    for path, line in imports.items():
        add_to_page(path, "import pytest\n", line)
    row = '\n    "tiny_autoencoder": Row(TinyAutoencoder, {"latent_dim": 4, "hidden_dim": 8}),'
    add_to_page(tests / "test_models.py", "MODELS = {", row)
    rows = "(ShapesDataModule, 8000, 2000), (PetsDataModule, 96, 24),"
    add_to_page(tests / "datamodules" / "test_datamodules.py", "ROWS = [", rows)
    docs = clone / "docs"
    add_to_page(docs / "models" / "classifiers.md", "`classifier_digits`", ", `classifier_shapes`")
    row = "\n| `TinyAutoencoder` | an example | `tinyautoencoder_digits` |"
    add_to_page(docs / "models" / "autoencoders.md", "| --- | --- | --- |", row)
    add_to_page(clone / "README.md", "`Autoencoder`, `PoolingAutoencoder`", ", `TinyAutoencoder`")
    page = docs / "api-reference.md"
    add_to_page(page, "::: lit_models.Autoencoder", "\n::: lit_models.TinyAutoencoder")
    for name in ("Shapes", "Pets"):
        add_to_page(page, "::: datamodules.DigitsDataModule", f"\n::: datamodules.{name}DataModule")
    add_to_page(docs / "data.md", "| --- | --- |", "\n| `ShapesDataModule` | shapes |\n| `PetsDataModule` | pets |")
    run = "test_models.py test_configs.py datamodules/test_datamodules.py test_doctests.py test_docs.py"
    names = "(tiny or shapes or Shapes or Pets or examples or page or documentation) and not python and not folder"
    paths = " ".join(f"tests/{name}" for name in run.split())
    shell("python -m ruff check --quiet --fix-only . && python -m ruff format --quiet .", clone)  # make format
    shell(f"python -m pytest -q -p no:cacheprovider {paths} -k '{names}'", clone)
    shell("python -m ruff check --quiet . && python -m ruff format --quiet --check .", clone)  # make lint
    shell("python -m mypy datamodules/pets.py datamodules/shapes.py lit_models/tiny_autoencoder.py", clone)


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_other_servers(tmp_path: Path):
    pytest.importorskip("mkdocs")
    shell(f"python -m mkdocs build --strict --quiet --site-dir {tmp_path / 'site'}", ROOT)
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = re.findall(r"<(?:script|img|link)\b[^>]*\b(?:src|href)=\"?(https?:[^\" >]+)", page.read_text())
        assert not loaded, (page, loaded)
