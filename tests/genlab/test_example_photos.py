from pathlib import Path

import pytest
from PIL import Image

from genlab.example_photos import main


def test_it_makes_a_folder_of_real_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "data" / "photos"
    assert main([str(folder), "--count", "3"]) == 0
    files = sorted(folder.rglob("*.*"))
    assert [str(path.relative_to(folder)) for path in files] == [
        f"{name}/000{k}.jpg" for name in ("china", "flower") for k in range(3)
    ]
    images = [Image.open(path).convert("RGB") for path in files]
    assert all(image.width * 3 // 4 == image.height >= 72 for image in images)
    assert len({image.tobytes() for image in images}) == 6
    assert list(folder.parent.iterdir()) == [folder]

    assert main([str(folder)]) == 2 and len(list(folder.rglob("*.jpg"))) == 6
    assert main([str(files[0] / "photos")]) == 2
    refused = capsys.readouterr().err.splitlines()
    assert "is there already" in refused[0] and "cannot write" in refused[1] and len(refused) == 2
