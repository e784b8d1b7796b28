"""Make the README's picture from a demo report: ``python docs/make_picture.py demo-report/index.html docs``.

Needs playwright and a chromium. Writes ``demo-light.png`` and ``demo-dark.png``.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def make_pictures(page_path: Path, out: Path) -> None:
    """Take the overview of the report in light and in dark."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1180, "height": 900}, color_scheme=scheme, device_scale_factor=2, offline=True
            )
            page = context.new_page()
            page.goto(page_path.resolve().as_uri())
            page.wait_for_function(
                "[...document.querySelectorAll('#overview .plot')].every(plot => plot.querySelector('.main-svg'))"
            )
            page.locator("#overview").screenshot(path=out / f"demo-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    make_pictures(Path(sys.argv[1]), Path(sys.argv[2]))
