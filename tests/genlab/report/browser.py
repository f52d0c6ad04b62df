"""What the tests of pages in a real browser share."""

import importlib.util
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason="no Chromium or no playwright"
)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&lt;b&gt;$x^$"
