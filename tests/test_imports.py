"""Imports point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"callbacks", "datamodules", "harness", "lit_models", "metrics", "train", "sweep", "sample", "tests"}
ALLOWED = {
    "lit_models/networks": set(),
    "lit_models/losses": set(),
    "metrics": {"metrics"},
    "datamodules": {"datamodules"},
    "lit_models": {"lit_models"},
    "callbacks": {"callbacks", "datamodules", "harness", "lit_models", "metrics"},
    "harness": {"harness"},
}
SHARED = {
    "lit_models.common.adversarial",
    "lit_models.common.pretrained_encoder",
    "lit_models.common.module",
    "lit_models.common.code_table",
    "lit_models.common.corruptions",
    "lit_models.common.manual_optimization",
    "lit_models.common.diffusion",
    "lit_models.common.latent_gan",
    "lit_models.common.image_to_image_gan",
    "lit_models.common.diffusion_base",
    "lit_models.common.image_pool",
    "lit_models.common.image_optimization",
    "lit_models.common.perceptual",
    "lit_models.common.latent_distributions",
    "lit_models.losses",
    "lit_models.common.ema",
    "lit_models.networks",
    "lit_models.common.noise_schedules",
    "lit_models.common.component",
    "lit_models.common.priors",
    "lit_models.common.processes",
    "lit_models.common.samplers",
    "lit_models.common.schedules",
}
"""What a model's file may import of its own folder; never another model's."""
LEAVES = ("lit_models.common.component",)
"""What even networks and losses may import: it imports nothing of ours itself."""
NO_TORCH = (
    "genlab/report/charts.py",
    "genlab/report/sweep_report.py",
    "genlab/report/html_page.py",
    "genlab/report/importance.py",
    "genlab/report/curves.py",
    "genlab/report/records.py",
    "genlab/sweep/definition_file.py",
    "genlab/sweep/engine.py",
    "genlab/runs/config.py",
)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def sources() -> list[Path]:
    return [path for folder in ALLOWED for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("path", sorted(set(sources())), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_folder_may(path: Path):
    relative = path.relative_to(ROOT)
    folder = max((folder for folder in ALLOWED if relative.is_relative_to(folder)), key=len)
    ours = {name for name in imported(path) if name.split(".")[0] in OURS}
    within = folder.replace("/", ".")
    own = (within, *LEAVES)
    foreign = {name for name in ours if name.split(".")[0] not in ALLOWED[folder] and not name.startswith(own)}
    assert not foreign
    if folder == "lit_models" and relative.name != "__init__.py":
        assert not {name for name in ours if not any(name.startswith(shared) for shared in SHARED)}


@pytest.mark.parametrize("name", NO_TORCH)
def test_charts_and_reports_start_without_torch(name: str):
    def reaches_torch(path: Path, seen: set[Path]) -> bool:
        seen.add(path)
        for module in imported(path):
            if module.split(".")[0] in ("torch", "lightning", "wandb"):
                return True
            inner = ROOT / f"{module.replace('.', '/')}.py"
            if module.startswith("harness") and inner.exists() and inner not in seen and reaches_torch(inner, seen):
                return True
        return False

    assert not reaches_torch(ROOT / name, set())
