"""A real headless Chromium, for tests of the HTML report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 375, "height": 812}
TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own one; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium, or its path in CHROMIUM")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, **options: Any) -> Iterator[Page]:
    """The file in a page of its own, which must neither complain nor ask for anything else.

    ``options`` are those of Playwright's ``new_context``; the viewport is a desktop's.
    """
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(10_000)
    page = context.new_page()
    troubles: list[str] = []

    def note_request(url: str) -> None:
        if url != file.as_uri() and not url.startswith("data:"):
            troubles.append(f"request: {url}")

    page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: note_request(request.url))
    page.goto(file.as_uri())
    page.evaluate(TWO_FRAMES)  # a change of the layout while it loads draws curves anew
    yield page
    context.close()
    if troubles:
        pytest.fail("; ".join(troubles))
