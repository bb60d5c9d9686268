"""Milliseconds from a keystroke on the server's page to the first token of the output.

    python benchmarks/page_latency.py [MODEL] [--keys 60]

Starts `s2s serve MODEL`, opens its page in an installed Chromium, types one character after the
other at a typist's pace, and measures in the browser: from the input event to the first text that
the page shows.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
from typing import Any

from playwright.sync_api import Page, sync_playwright

TEXTS = {
    "zh-prose": "春天到了，万物复苏。我小的时候，常常和朋友们一起去河边看花。",
    "de-en": "Das Wetter ist heute schön. Der Mann, der gestern hier war, ist mein Bruder.",
}
PAUSE_MS = 250
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

WATCH = """
() => {
  window.milliseconds = [];
  const output = document.querySelector(".output");
  let started = null;
  document.querySelector("textarea").addEventListener(
    "input", () => { started = performance.now(); }, { capture: true });
  new MutationObserver(() => {
    if (started === null || !output.classList.contains("is-writing") || !output.textContent) return;
    window.milliseconds.push(performance.now() - started);
    started = null;
  }).observe(output, { childList: true, characterData: true, subtree: true });
}
"""


def main() -> None:
    """Prints the percentiles."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="zh-prose", choices=TEXTS)
    parser.add_argument("--keys", type=int, default=60)
    arguments = parser.parse_args()
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit(f"Expected an installed browser: {', '.join(BROWSERS)}.")
    command = [sys.executable, "-m", "seq2seq_kit", "serve", arguments.model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            found = re.search(r"http://\S+", line)
            if found is None:
                sys.exit("The server did not start.")
            measured = measure(path, found[0], TEXTS[arguments.model], arguments.keys)
        finally:
            server.terminate()
    report(arguments.model, measured)


def measure(path: str, address: str, text: str, keys: int) -> list[float]:
    """Returns the milliseconds of each keystroke that an output followed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(address)
        page.locator("button.word.end").wait_for()  # Graphs are traced by the example.
        page.locator("textarea").fill(text[:2])
        page.locator("button.word.end").wait_for()
        page.evaluate(WATCH)
        press(page, (text * (1 + keys // len(text)))[:keys])
        found: list[Any] = page.evaluate("window.milliseconds")
        browser.close()
    return [float(one) for one in found]


def press(page: Page, text: str) -> None:
    """Types a text character by character."""
    for character in text:
        page.locator("textarea").press_sequentially(character)
        page.wait_for_timeout(PAUSE_MS)


def report(model: str, measured: list[float]) -> None:
    """Prints what was measured."""
    ordered = sorted(measured)
    if not ordered:
        sys.exit("No output followed any keystroke: the machine is busy, or the pause too short.")
    ninetieth = ordered[int(0.9 * (len(ordered) - 1))]
    print(
        f"{model}: {len(ordered)} keystrokes, median {statistics.median(ordered):.0f} ms, "
        f"90th percentile {ninetieth:.0f} ms, largest {ordered[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
