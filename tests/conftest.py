"""Settings of every test, and the line at the end of a run about the tests that lack a browser."""

import signal

import pytest
from hypothesis import settings

from helpers import browser

# The same examples at every run, and none failed for being slow on a busy machine.
settings.register_profile("dcao", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("dcao")


@pytest.fixture
def interruptible():
    """Ctrl-C works, here and in processes that start from here; what a shell runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the first to start is the last to write
def pytest_terminal_summary(terminalreporter):
    """Say how many tests were left out for want of a browser, and what brings them."""
    yield
    left_out = [report for report in terminalreporter.stats.get("skipped", []) if "browser" in report.keywords]
    if left_out:
        files = ", ".join(sorted({report.nodeid.split("::")[0] for report in left_out}))
        line = f"{len(left_out)} browser tests were left out ({files}): {browser.what_is_missing()}"
        terminalreporter.write_line(line, yellow=True)
