"""A headless Chromium for tests of the page, and a page that reports its own faults."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")

# Milliseconds, for a machine with other work to do: the first use of an option traces a graph.
_PATIENCE = 45_000


def find_browser() -> str | None:
    """The installed Chromium or Chrome, if there is one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def running_browser() -> "Iterator[Browser]":
    """A browser; the test is skipped where none is installed."""
    path = find_browser()
    if path is None:
        pytest.skip(
            f"No browser is installed ({', '.join(_NAMES)}). On Debian: apt install chromium"
        )
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=_PATIENCE)
    # As root, which CI is, Chromium has no sandbox.
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"] if is_root else []
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: "Browser", address: str, **context: Any) -> "Iterator[Page]":
    """The page of a server; a fault of its scripts, or a refused resource, fails the test."""
    values = {"viewport": {"width": 1280, "height": 900}, "locale": "en"} | context
    faults: list[str] = []
    with browser.new_context(**values) as session:
        session.set_default_timeout(_PATIENCE)
        page = session.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: (
                faults.append(message.text)
                # The browser itself reports each answer with an error status.
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.goto(address)
        yield page
    assert faults == []
