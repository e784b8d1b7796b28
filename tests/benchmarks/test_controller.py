"""The script that judges the default policy still runs; about ten seconds."""

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks" / "controller"


def output_of(*arguments):
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_of_an_unseen_task_is_traced():
    *decisions, result = output_of("unseen.py", "--trace", "logreg_zero", "--variant", "target=4").splitlines()
    result = json.loads(result)
    beyond = result["evaluations"] - 600  # the first probe's check and search, which no schedule sees
    assert 1 <= beyond <= 11
    assert len(decisions) + beyond == result["evaluations"] - result["steps"]
    assert "error" not in result
