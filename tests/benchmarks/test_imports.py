"""Every benchmark finds what it imports, which may have moved since it was last run."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda script: script.stem)
def test_a_benchmark_can_be_imported(script):
    command = [sys.executable, "-c", f"import {script.stem}"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
