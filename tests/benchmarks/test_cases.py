"""The situations in benchmarks/cases still run: one line each, and an exit status that is a verdict and no crash."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[2] / "benchmarks" / "cases"


@pytest.mark.slow  # two minutes for all of them
@pytest.mark.parametrize("script", sorted(CASES.glob("*.py")), ids=lambda script: script.stem)
def test_a_case_says_in_one_line_whether_dcao_is_right(script):
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr  # a crash exits 1 too
    assert len(done.stdout.splitlines()) == 1


def test_the_readme_lists_every_case():
    listed = {line.split("`")[1] for line in (CASES / "README.md").read_text().splitlines() if line.startswith("| `")}
    assert listed == {script.name for script in CASES.glob("*.py")}
