import pytest
from typer.testing import CliRunner

from dcao_lab.baselines import BASELINES
from dcao_lab.cli import app
from dcao_lab.store import RunStore
from dcao_lab.workloads import WORKLOADS
from lab_runs import small_config


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_names_everything():
    output = invoke("list").output
    assert all(name in output for name in [*WORKLOADS, *BASELINES])


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
        (("run", "-w", "digits"), "unknown workload 'digits'; did you mean digits_mlp or digits_cnn"),
        (("run", "-w", "digits_mlp", "-o", "dcao"), "unknown optimizer 'dcao'; did you mean"),
        (("run", "-w", "digits_mlp", "--lr", "0"), "lr must be positive and finite, got 0.0"),
        (("run", "-w", "digits_mlp", "--steps", "0"), "num_steps must be 1 or more, got 0"),
        (("demo", "-w", "imagenet"), "unknown workload 'imagenet'"),
        (("spectrum", "-w", "digits_mlp", "-o", "lion"), "unknown optimizer 'lion'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_sentence_and_exit_2(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"dcao-lab: {sentence}")
    assert result.stderr.count("\n") == 1


def test_spectrum_prints_values_residuals_trace_and_density(tmp_path):
    page = tmp_path / "density.html"
    result = invoke("spectrum", "-w", "digits_mlp", "--steps", "2", "-k", "3", "--out", page)
    assert result.exit_code == 0, result.output
    for words in ("Ritz value", "residual", "trace", "standard error", "preconditioned", "eigenvalues", "density"):
        assert words in result.output
    assert "plotly" in page.read_text()
