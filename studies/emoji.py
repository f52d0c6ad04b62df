"""Makes a folder of 64 x 64 pictures, a sub-folder for each class, from the npm package of Google's Noto emoji.

npm pack emoji-datasource-google@16.0.0
python -m studies.emoji emoji-datasource-google-16.0.0.tgz data/emoji

The pictures are licensed under the Apache License 2.0.
"""

import json
import re
import tarfile
from pathlib import Path
from typing import IO, Any

from genlab.runs.errors import UsageError
from studies.command import make_parser, run_command

EMOJI, PICTURES = "package/emoji.json", "package/img/google/64"


def pictures(emoji: list[dict[str, Any]]) -> dict[str, str]:
    """Returns the class of each picture by its file name, such as {"1f436.png": "animals_nature"}."""
    found = {}
    for entry in emoji:
        name = re.sub(r"[^a-z]+", "_", entry["category"].lower())
        for version in (entry, *entry.get("skin_variations", {}).values()):
            if version["has_img_google"] and name != "component":
                found[version["image"]] = name
    return found


def unpack(package: Path, folder: Path) -> int:
    """Writes the pictures of a package into a folder, and returns their number.

    Raises:
        UsageError: The file is not the package.
    """
    try:
        with tarfile.open(package, "r:gz") as tar:
            classes = pictures(json.load(_open(tar, EMOJI)))
            for name in set(classes.values()):
                (folder / name).mkdir(parents=True, exist_ok=True)
            for member in tar:  # in the order of the file, which cannot be read backwards
                parent, _, file = member.name.rpartition("/")
                if parent == PICTURES and file in classes:
                    (folder / classes[file] / file).write_bytes(_open(tar, member).read())
    except (tarfile.TarError, KeyError) as error:
        raise UsageError(f"{package} is not the package emoji-datasource-google ({error})") from None
    return len(classes)


def _open(tar: tarfile.TarFile, member: str | tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(f"{member} is no file")
    return file


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("package", type=Path, help="file emoji-datasource-google-16.0.0.tgz")
    parser.add_argument("folder", type=Path, help="folder to write")
    args = parser.parse_args()
    print(f"{unpack(args.package, args.folder)} pictures in {args.folder}")


if __name__ == "__main__":
    run_command(main)
