"""The scripts that judge the default policy still run; about ten seconds."""

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks" / "controller"
RANGE_TEST = """
from dataclasses import replace
from range_test import TASKS, Trial, run
TASKS["siren"] = replace(TASKS["siren"], budget=150)
trial = Trial(share=0.5, watch_all=False, follow_signal=True, policy={"first_relative_step": 0.01})
result = run("siren", "adamw", 0, trial)
print(result.cap is not None, result.cap < result.max_lr, result.decay is not None)
"""


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


def test_a_range_test_caps_lr_and_follows_the_signal():
    assert output_of("-c", RANGE_TEST).split() == ["True", "True", "True"]
