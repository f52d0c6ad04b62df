from collections.abc import Iterator
from typing import Any

import pytest

from tests import HANG_SECONDS
from tests.genlab.report.browser import CHROMIUM


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """Yields a tab, and checks that it has no error, no dialog and no request to another address."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(1000 * HANG_SECONDS)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: (problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith("file:") else problems.append(request.url))
    page.on("requestfailed", lambda request: problems.append(f"failed {request.url}"))
    yield page
    page.close()
    assert problems == []
