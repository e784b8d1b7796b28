import errno
import os

import pytest
from typer.testing import CliRunner

from dcao_lab.baselines import BASELINES
from dcao_lab.commands.cli import app
from dcao_lab.runs.store import RunStore
from dcao_lab.study.recipes import RECIPES
from dcao_lab.workloads import WORKLOADS
from helpers.lab_runs import small_config


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_names_everything():
    output = invoke("list").output
    assert all(name in output for name in [*WORKLOADS, *BASELINES, *RECIPES])


def test_a_dry_run_says_how_much_a_study_is_and_does_nothing(tmp_path):
    command = ("study", "headline", "--arm", "adamw", "--dry-run", "--out", tmp_path)
    output = " ".join(invoke(*command).output.split())
    assert "workload steps trials final watched hours" in output
    assert "runs of 1 arms; about" in output
    assert not list(tmp_path.iterdir())


def test_run_trains_keeps_the_run_and_does_it_only_once(tmp_path):
    command = ("run", "-w", "digits_mlp", "-o", "dcao:adamw", "--lr", "1e-3", "--steps", "5", "--out", tmp_path)
    first, second = invoke(*command), invoke(*command)
    assert first.exit_code == second.exit_code == 0
    assert "step     5" in first.output
    assert "step" not in second.output
    assert "digits_mlp dcao:adamw lr=0.001 seed=0: accuracy" in second.output


def test_a_damaged_run_is_done_again_and_said(tmp_path):
    command = ("run", "-w", "digits_mlp", "-o", "adamw", "--steps", "5", "--out", tmp_path)
    invoke(*command)
    store = RunStore(tmp_path)
    folder = store.folder(small_config(num_steps=5, eval_every=5))
    (folder / "result.json").write_text("{")
    output = invoke(*command).output.replace("\n", "")
    assert "is done again: result.json differs from what was written (what was there is now in" in output
    assert "step     5" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "-w", "digits"), "unknown workload 'digits'; did you mean digits_vit or digits_vae or digits_mlp"),
        (("run", "-w", "digits_mlp", "-o", "dcao"), "unknown optimizer 'dcao'; did you mean"),
        (("run", "-w", "digits_mlp", "--lr", "0"), "lr must be positive and finite, got 0.0"),
        (("run", "-w", "digits_mlp", "--steps", "0"), "num_steps must be 1 or more, got 0"),
        (
            ("demo", "-w", "imagenet"),
            "unknown workload of this study 'imagenet'; there are: digits_mlp, digits_cnn, pydoc_gpt",
        ),
        (("study", "headlines"), "unknown study 'headlines'; did you mean headline"),
        (("study", "eos", "--size", "demo"), "unknown size 'demo'; there are: embedded, small, full"),
        (("study", "headline", "--arm", "adamv"), "unknown arm of this study 'adamv'; did you mean"),
        (("study", "headline", "--executor", "slurm"), "unknown executor 'slurm'; there are: local, ray"),
        (("study", "headline", "--address", "auto"), "--address and --gpus-per-run are for --executor ray; add it"),
        (
            ("study", "headline", "--executor", "ray", "--gpus-per-run", "0.5"),
            "--gpus-per-run reserves GPUs for runs on cpu",
        ),
        (("report", "nowhere"), "there is no study in nowhere; give the folder that has study.json"),
        (("spectrum", "-w", "digits_mlp", "-o", "lion"), "DCAO knows no stability threshold of Lion; choose sgd"),
        (("spectrum", "-w", "digits_mlp", "-o", "kfac", "--steps", "1"), "DCAO knows no stability threshold of KFAC"),
        (("spectrum", "-w", "digits_mlp", "-o", "lyon"), "unknown optimizer 'lyon'"),
        (("spectrum", "-w", "digits_mlp", "--lr", "-1"), "lr must be positive and finite, got -1.0"),
        (("spectrum", "-w", "digits_mlp", "--seed", "-1"), "seed must be 0 or more, got -1"),
        (
            ("spectrum", "-w", "digits_mlp", "--out", "x.html"),
            "a picture must end with one of .png, .svg, .pdf, got x",
        ),
        (("plot", "nowhere", "--out", "."), "a picture must end with one of .png, .svg, .pdf, got ."),
        (
            ("run", "-w", "digits_mlp", "-o", "adamw", "--spectrum-every", "5"),
            "--spectrum-every has no effect on adamw, which is not probed; add --watch",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_sentence_and_exit_2(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"dcao-lab: {sentence}")
    assert result.stderr.count("\n") == 1


def test_more_pairs_than_a_basis_can_hold_are_refused_before_any_work():
    result = invoke("spectrum", "-w", "digits_mlp", "-k", "100000")
    assert result.exit_code == 2
    assert "less than or equal to 100" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize("command", [("run",), ("demo", "--seeds", "1", "--jobs", "1")], ids=str)
def test_a_full_disk_is_one_sentence_and_no_traceback(tmp_path, monkeypatch, command):
    def no_space(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dcao_lab.runs.store.tempfile.mkdtemp", no_space)
    monkeypatch.setattr("dcao_lab.execution.workers._run_one", full_disk)
    result = invoke(*command, "-w", "digits_mlp", "--steps", "2", "--out", tmp_path)
    assert result.exit_code == 2
    assert "No space left on device" in result.output
    assert result.stderr.startswith("dcao-lab: ")
    assert result.stderr.count("\n") == 1


def full_disk(config, root, place):
    """What a worker process does when the disk is full; a patch here would not reach into it."""
    with RunStore(root).writing(config):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_before_the_first_step_there_is_no_training_loss(tmp_path):
    output = invoke("run", "-w", "digits_mlp", "-o", "adamw", "--steps", "2", "--out", tmp_path).output
    assert "training loss -  test accuracy" in output
    assert "nan" not in output


def test_spectrum_prints_values_residuals_trace_and_density(tmp_path):
    picture = tmp_path / "new folder" / "density.svg"
    result = invoke("spectrum", "-w", "digits_mlp", "--steps", "2", "-k", "3", "--out", picture)
    assert result.exit_code == 0, result.output
    for words in ("Ritz value", "residual", "trace", "standard error", "preconditioned", "eigenvalues", "density"):
        assert words in result.output
    assert picture.read_text().lstrip().startswith("<?xml")


def test_a_run_takes_settings_and_a_schedule(tmp_path):
    options = ("--set", "momentum=0.5", "--set", "nesterov=true", "--schedule", "cosine", "--batch-size", "16")
    output = invoke("run", "-w", "digits_mlp", "-o", "sgd", "--steps", "3", *options, "--out", str(tmp_path)).output
    assert "digits_mlp sgd lr=0.001 momentum=0.5 nesterov=True schedule=cosine batch_size=16 seed=0" in output


def test_a_setting_without_a_value_is_a_sentence(tmp_path):
    result = invoke("run", "-w", "digits_mlp", "--set", "momentum", "--out", str(tmp_path))
    assert (result.exit_code, result.stderr) == (
        2,
        "dcao-lab: a setting must be name=value, got 'momentum'; for example weight_decay=0.1\n",
    )
