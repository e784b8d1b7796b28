"""The trials of changes to the default policy still run; a few seconds."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks" / "controller"
RANGE_TEST = """
from range_test import Trial, run
trial = Trial(share=0.5, watch_all=False, follow_signal=True, policy={"first_relative_step": 0.01})
result = run("siren", "adamw", 0, trial, budget=150)
print(result.cap is not None, result.cap < result.max_lr, result.decay is not None)
"""


def output_of(*arguments):
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_range_test_caps_lr_and_follows_the_signal():
    assert output_of("-c", RANGE_TEST).split() == ["True", "True", "True"]
