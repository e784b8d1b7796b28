"""Browser tests are left out only where no browser can be had, and then a run says so in one line at its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import browser

ROOT = Path(__file__).parents[1]
BROWSER_TESTS = "tests/dcao_lab/report/test_browser.py"


def program(folder, name, script="exit 0"):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with no programs at all, on which nobody is root and no CI runs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def test_ci_leaves_no_browser_test_out_where_a_browser_could_have_been_installed():
    if browser.in_ci() and browser.apt_get() is not None:
        assert browser.what_is_missing() is None


@pytest.mark.parametrize("name", browser.NAMES)
def test_any_chromium_or_chrome_on_path_will_do(machine, name):
    assert browser.find_browser() is None
    path = program(machine, name)
    assert browser.find_browser() == str(path)
    assert browser.what_is_missing() is None


def test_what_is_missing_is_said_with_the_command_that_brings_it(machine):
    assert browser.what_is_missing() == "no Chromium is on PATH; `apt-get install chromium` as root brings it"


def test_without_apt_or_root_nothing_is_run_and_nothing_fails(machine, capfd):
    program(machine, "sudo")
    assert browser.apt_get() is None  # no apt
    program(machine, "apt-get", f"echo called >> {machine}/calls")
    assert browser.apt_get() is None  # no root, and the sudo is a developer's
    browser.install()
    assert not (machine / "calls").exists()
    assert "The browser tests will be skipped: no Chromium is on PATH;" in capfd.readouterr().out


def test_root_updates_the_lists_and_installs(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    script = f'echo "$DEBIAN_FRONTEND $*" >> {machine}/calls\ncase "$*" in *install*) : > {machine}/chromium; esac'
    program(machine, "apt-get", f"{script}\n/bin/chmod +x {machine}/chromium 2> /dev/null || exit 0")
    browser.install()
    update, install = (machine / "calls").read_text().splitlines()
    assert update.startswith("noninteractive ")
    assert update.endswith(" update -qq")
    assert install.endswith(" install -qq --yes --no-install-recommends --reinstall chromium")
    browser.install()  # there is one now
    assert len((machine / "calls").read_text().splitlines()) == 2


def test_an_apt_that_fails_is_shown_and_fails_nothing(machine, monkeypatch, capfd):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(machine, "apt-get", "echo E: no network; exit 100")
    browser.install()
    output = capfd.readouterr()
    assert "The browser tests will be skipped: apt could not install Chromium" in output.out
    assert "exited 100:\nE: no network" in output.err


def test_ci_uses_sudo_where_it_asks_for_no_password(machine, monkeypatch):
    monkeypatch.setenv("CI", "true")
    program(machine, "apt-get")
    assert browser.apt_get() is None
    program(machine, "sudo", "exit 1")
    assert browser.apt_get() is None
    program(machine, "sudo")
    assert browser.apt_get()[:2] == ["sudo", "--non-interactive"]


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_a_run_without_a_browser_passes_and_names_what_it_left_out(machine, workers):
    """About five seconds."""
    command = [sys.executable, "-m", "pytest", "-q", *workers, BROWSER_TESTS, "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, left_out, counts = done.stdout.splitlines()
    number = counts.split(" skipped")[0].split()[-1]
    reason = "no Chromium is on PATH; `apt-get install chromium` as root brings it"
    assert left_out == f"{number} browser tests were left out ({BROWSER_TESTS}): {reason}"


def test_the_check_of_ci_fails_where_root_could_have_installed_a_browser(machine, monkeypatch):
    check = test_ci_leaves_no_browser_test_out_where_a_browser_could_have_been_installed
    program(machine, "apt-get")
    monkeypatch.setenv("CI", "true")
    check()  # nobody is root
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(AssertionError, match="no Chromium is on PATH"):
        check()
