"""The pages of docs/ that studies write: text, links and pictures."""

import re
from pathlib import Path

import pytest

from genlab.runs.errors import UsageError
from studies import gallery, page
from studies.page import DOCS, README, REPOSITORY, RESULTS

LINK = re.compile(r"\]\(([^()\s]+)\)")


def links(path: Path) -> list[str]:
    """Returns the targets of a page's links and pictures that are files, with their anchors."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [link for link in LINK.findall(text) if "://" not in link]


def anchors(path: Path) -> list[str]:
    """Returns the anchors of a page's headings: letters, digits and hyphens, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings]


def test_the_gallery_is_what_its_command_writes() -> None:
    assert (DOCS / "gallery.md").read_text(encoding="utf-8") == gallery.page()


def test_the_gallery_without_runs_names_their_commands(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lacks some runs; make them:\n.*ae_capacity") as error:
        gallery.copy_pictures(tmp_path)
    lines = str(error.value).splitlines()
    assert len(lines) == len(set(lines))


def test_every_picture_is_linked_and_every_linked_file_exists() -> None:
    used = set()
    for path in (README, *DOCS.rglob("*.md")):
        for link in links(path):
            target = (path.parent / link.partition("#")[0]).resolve() if not link.startswith("#") else path
            assert target.exists(), f"{path.name} links to {link}, which does not exist"
            used.add(target)
    pictures = {path for path in (DOCS / "img").rglob("*") if path.is_file()}
    assert pictures <= used, sorted(str(path.relative_to(REPOSITORY)) for path in pictures - used)


@pytest.mark.parametrize("path", [RESULTS, DOCS / "gallery.md"], ids=lambda path: path.name)
def test_links_stay_below_docs(path: Path) -> None:
    assert all((DOCS / link.partition("#")[0]).resolve().is_relative_to(DOCS) for link in links(path))


def test_anchors_of_the_results_exist_once() -> None:
    there = anchors(RESULTS)
    assert len(there) == len(set(there))
    asked = [link[1:] for link in links(RESULTS) if link.startswith("#")]
    for path in (README, *DOCS.rglob("*.md")):
        asked += [link.partition("#")[2] for link in links(path) if "results.md#" in link]
    assert asked and set(asked) <= set(there), sorted(set(asked) - set(there))


def test_files_that_the_results_name_exist() -> None:
    text = RESULTS.read_text(encoding="utf-8")
    names = set(re.findall(r"\b(?:configs|sweeps|tests|studies)/[\w/]+\.(?:yaml|py)\b", text))
    modules = {name.replace(".", "/") + ".py" for name in re.findall(r"python -m (studies[\w.]+)", text)}
    missing = [name for name in sorted(names | modules) if not (REPOSITORY / name).is_file()]
    assert names and modules and not missing


def test_without_docs_the_error_says_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "DOCS", tmp_path / "docs")
    with pytest.raises(UsageError, match=r"no folder .*docs to write to; run this command from a checkout"):
        page.check_docs()
