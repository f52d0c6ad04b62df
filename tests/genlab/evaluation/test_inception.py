from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch

from genlab.evaluation.inception import inception_distance, inception_images
from genlab.runs.errors import UsageError


def test_inception_images_are_uint8_with_three_channels():
    levels = torch.arange(256).float().div(255).reshape(1, 1, 16, 16)
    given = inception_images(levels)
    assert given.dtype == torch.uint8 and given.shape == (1, 3, 16, 16)
    assert torch.equal(given[0, 2].flatten(), torch.arange(256).byte())


def test_unusable_weights_are_refused(tmp_path: Path):
    pytest.importorskip("torch_fidelity")
    for name, contents in (("code", {"x": SimpleNamespace()}), ("other", {"x": torch.zeros(1)})):
        torch.save(contents, tmp_path / name)
    (tmp_path / "text").write_text("no weights")
    for name in ("code", "other", "text", "missing"):
        with pytest.raises(UsageError, match=f"cannot be loaded from .*{name}") as caught:
            inception_distance(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(inception, "load_state_dict_from_url", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=f"cannot be loaded from {tmp_path}.*no network.*as quality.inception_weights"):
        inception_distance()
