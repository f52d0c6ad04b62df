import math

import pytest
import torch

from genlab.callbacks.latent_correlation_matrix import correlation_figure
from genlab.figures import scatter_figure
from genlab.media import render


@pytest.mark.parametrize(("angle", "at_120"), [("hue", (0, 1, 0)), ("angle", None)])
def test_angles_have_their_own_panel(angle: str, at_120: tuple[int, int, int] | None):
    labels = torch.tensor([[0, 0], [1, 120], [2, 240], [0, 360]])
    figure = scatter_figure(torch.randn(4, 2), ("z1", "z2"), labels, ("a", "b", "c"), angle)
    render(figure)
    by_class, by_angle = (axes for axes in figure.axes if axes.get_xlabel() == "z1")
    colours = by_class.collections[0].get_facecolors()
    assert (colours[0] == colours[3]).all() and len({tuple(colour) for colour in colours}) == 3
    colours = by_angle.collections[0].get_facecolors()
    assert (colours[0] == colours[3]).all()  # 0 and 360 degrees are equal
    if at_120 is not None:
        assert colours[1][:3] == pytest.approx(at_120, abs=0.02) and colours[0][:3] == pytest.approx((1, 0, 0))


def test_figures_render_without_a_display():
    figure = scatter_figure(torch.randn(50, 2), ("z1", "z2"), torch.arange(50) % 10, tuple("0123456789"))
    assert render(figure).size == (600, 540)
    matrix = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])
    heat_map = correlation_figure(matrix).axes[0]
    title = heat_map.get_title()
    heat_map.figure.draw_without_rendering()
    ticks = [(tick.get_position()[0], tick.get_text()) for tick in heat_map.get_xticklabels()]
    assert [tick for tick in ticks if 1 <= tick[0] <= 2] == [(1, "z1"), (2, "z2")]  # whole numbers only
    assert "off the diagonal 0.500" in title and "of the whole matrix 0.750" in title and not math.isnan(matrix.sum())
