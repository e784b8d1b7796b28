"""The browser that the report's tests open, and how a machine without one gets it.

``python tests/helpers/browser.py`` installs Debian's Chromium where that needs no password. It always exits 0: without
a browser the tests that need one are skipped, and the last lines of the test run say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
HOW_TO_GET_ONE = "`apt-get install chromium` as root brings it"
APT_GET = ("apt-get", "-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=60", "-o", "DPkg::Lock::Timeout=300")


def find_browser() -> str | None:
    """Path of a Chromium or a Chrome; None where neither is on PATH."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def what_is_missing() -> str | None:
    """What the browser tests lack, and the command that brings it; None where they can run."""
    if find_spec("playwright") is None:
        return "Playwright is not installed; `pip install playwright` brings it"
    if find_browser() is None:
        return f"no Chromium is on PATH; {HOW_TO_GET_ONE}"
    return None


@contextmanager
def running() -> Iterator[Any]:
    """A Chromium, while the block lasts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield browser
        browser.close()


def page_with_complaints(context: Any, *, own: tuple[str, ...]) -> Any:
    """A new page, whose ``complaints`` are what it says on the console, its errors, and requests but its own."""
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(own) or page.complaints.append(request.url))
    return page


def in_ci() -> bool:
    """Whether a CI service runs this."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def apt_get() -> list[str] | None:
    """The command that installs packages without asking for a password; None where there is none.

    A developer's own sudo is left alone, even one that asks for no password.
    """
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return [*APT_GET]
    if in_ci() and shutil.which("sudo") and run(["sudo", "--non-interactive", "true"]) == 0:
        return ["sudo", "--non-interactive", "env", "DEBIAN_FRONTEND=noninteractive", *APT_GET]
    return None


def install() -> None:
    """Install Chromium if there is no browser and apt can be used."""
    if find_browser() is not None:
        return
    command = apt_get()
    if command is None:
        print(f"The browser tests will be skipped: no Chromium is on PATH; {HOW_TO_GET_ONE}")
        return
    print("Installing Chromium for the browser tests, once: a minute or two", flush=True)
    run([*command, "update", "-qq"])  # may fail for one source of many; whether it was enough shows below
    # --reinstall brings back a program that somebody removed by hand; otherwise it changes nothing.
    run([*command, "install", "-qq", "--yes", "--no-install-recommends", "--reinstall", "chromium"])
    if find_browser() is None:
        print("The browser tests will be skipped: apt could not install Chromium")


def run(command: list[str]) -> int:
    """Exit status of a command that can ask nobody anything; its output is shown only when it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        print(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    install()
