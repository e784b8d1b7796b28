"""``dcao-lab plot``: a picture of a run as a file."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from dcao import JsonlRecorder
from dcao_lab.commands.cli import app
from dcao_lab.commands.plotting import write_picture
from helpers.records import RECORD

BEGINNINGS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "logs" / "first.jsonl"
    for step in range(3):
        JsonlRecorder(path).record(replace(RECORD, step=step, loss=1.0 + step))
    return path


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are written."""
    figures, write = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kw: (figures.append(figure), write(figure, *args, **kw))
    )
    return figures


def invoke(*arguments):
    return CliRunner().invoke(app, ["plot", *map(str, arguments)])


def test_without_out_the_picture_is_here_and_has_the_name_of_the_run(log):
    result = invoke(log)
    assert (result.exit_code, result.output) == (0, "Picture: first.png\n")
    assert (log.parents[1] / "first.png").read_bytes().startswith(BEGINNINGS["png"])


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_ending_says_what_is_written_and_folders_are_made(log, kind):
    result = invoke(log, "--out", f"new/run.{kind}")
    assert result.output == f"Picture: new/run.{kind}\n"
    assert (log.parents[1] / "new" / f"run.{kind}").read_bytes().startswith(BEGINNINGS[kind])


def test_panels_are_chosen(log, drawn):
    assert invoke(log, "-p", "lr", "-p", "loss").exit_code == 0
    assert [axes.get_label() for axes in drawn[0].axes] == ["lr", "loss"]


def test_a_run_of_the_lab_is_drawn_with_its_own_limit(tmp_path, monkeypatch, drawn):
    monkeypatch.chdir(tmp_path)
    command = ["run", "-w", "digits_mlp", "--steps", "8", "--set", "max_relative_step=0.03", "--out", "runs"]
    assert CliRunner().invoke(app, command).exit_code == 0
    (folder,) = [path.parent for path in (tmp_path / "runs").glob("*/telemetry.jsonl")]
    assert write_picture(folder, out=None, panels=None).name == f"{folder.name}.png"
    assert write_picture(folder / "telemetry.jsonl", out=None, panels=None).name == f"{folder.name}.png"
    names = {line.get_label() for axes in drawn[0].axes for line in axes.lines}
    assert "limit 0.03" in names


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere",), "records must be StepRecords, the path of a JsonlRecorder's file or the folder of a run of"),
        (("logs",), "records must be StepRecords, the path of a JsonlRecorder's file or the folder of a run of"),
        (("logs/first.jsonl", "--out", "run.gif"), "a picture must end with one of .png, .svg, .pdf, got run.gif; for"),
        (("logs/first.jsonl", "--panel", "sharpness"), "panels must be a list of some of loss, lr, relative_step, s,"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_one_sentence_and_exit_2(log, arguments, sentence):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"dcao-lab: {sentence}")
    assert result.stderr.count("\n") == 1


def test_a_picture_that_cannot_be_written_is_one_sentence_with_both_fixes(log):
    (log.parent / "taken.png").mkdir()
    result = invoke(log, "--out", log.parent / "taken.png")
    place = log.parent / "taken.png"
    assert result.exit_code == 2
    assert result.stderr == (
        f"dcao-lab: cannot read or write {place}: Is a directory; check the path, or try another --out\n"
    )
