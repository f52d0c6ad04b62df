from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from genlab.callbacks.latent_scatter import LatentScatter
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_models import Painter, trainer


@pytest.mark.parametrize("column", ["hue", "angle"])
def test_the_second_panel_has_the_name_of_the_label_column(column: str, tmp_path: Path, monkeypatch):
    """Labels of grey images may have a hue, and those of colour images an angle."""
    drawn: list[Figure] = []
    monkeypatch.setattr(
        "genlab.callbacks.latent_scatter.save_picture", lambda trainer, name, figure: drawn.append(figure)
    )
    shape = (1, 1, 6) if column == "hue" else (3, 1, 2)
    running = trainer(tmp_path, torch.rand(4, 6), torch.tensor([[0, 5], [1, 0], [2, 90], [1, 2]]))
    images, labels = running.datamodule.examples("test", 4)
    running.datamodule.examples = lambda split, n, seed=0: (images.reshape(-1, *shape), labels)
    running.datamodule.label_columns, running.datamodule.image_shape = ("digit", column), shape
    LatentScatter().on_test_end(running, Painter([LatentBlock("continuous", 0, 6)], None))  # type: ignore[arg-type]
    assert [axes.get_title() for axes in drawn[0].axes[:2]] == ["by class", f"by {column}"]
