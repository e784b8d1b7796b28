"""A rank that is killed in a probe ends the others with an error in time, and the checkpoint is whole."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch

from helpers import TESTS
from helpers.fault_runs import NUM_STEPS, PROBED
from helpers.killed_ranks import SECONDS, WORLD, RankJob


def test_a_rank_that_is_killed_in_a_probe_ends_the_other_with_an_error_and_the_checkpoint_resumes(tmp_path):
    command = [sys.executable, "-m", "helpers.killed_ranks", str(tmp_path)]
    ranks = [
        subprocess.Popen([*command, str(rank)], cwd=TESTS, stderr=subprocess.PIPE, text=True) for rank in range(WORLD)
    ]
    try:
        # Starting takes seconds; then whoever waits for the dead one gives up after SECONDS.
        errors = [rank.communicate(timeout=60 + SECONDS)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert ranks[1].returncode == -signal.SIGKILL, errors[1]
    assert ranks[0].returncode not in (0, None)
    assert "RuntimeError" in errors[0] or "DistBackendError" in errors[0], errors[0]

    resumed, alone = RankJob(tmp_path), RankJob(None)
    resumed.load()
    assert resumed.step == PROBED - PROBED % 4
    while alone.step < resumed.step:
        alone.advance()
    # Means over the ranks add up in another order than one batch does: 1e-16, over differences 1e-8 apart.
    for one, other in zip(resumed.weights(), alone.weights(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    resumed.run()
    alone.run()
    assert resumed.step == resumed.optimizer.num_steps == NUM_STEPS
    assert resumed.losses[resumed.step - 1] == pytest.approx(alone.losses[-1], rel=1e-5)
    assert resumed.optimizer.effective_lrs == pytest.approx(alone.optimizer.effective_lrs, rel=1e-5)
