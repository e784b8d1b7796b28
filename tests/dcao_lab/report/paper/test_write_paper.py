import gc
import os
import re
import struct
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

import helpers.paper_cases as paper_cases
from dcao_lab.report.paper import write_paper
from dcao_lab.report.paper.latex import escape

ALWAYS = {"training_loss", "validation_metric", "gains", "profiles", "time_to_target", "critical_difference"}
ONLY_WITH_DATA = {
    "gains_digits_mlp", "robustness_lr", "stability", "raw_stability", "preconditioned_stability", "sharpness",
    "spectral_densities",
    "generalisation_sharpness", "generalisation_preconditioned_sharpness", "generalisation_trace",
}  # fmt: skip


@dataclass
class Written:
    folder: Path
    paths: list[Path]
    figures: list[weakref.ref]
    settings: tuple[dict, dict]  # of matplotlib, before and after


def write_and_watch(result, folder):
    made = []
    initialise = Figure.__init__

    def noted(self, *args, **kwargs):
        made.append(weakref.ref(self))
        initialise(self, *args, **kwargs)

    before = dict(matplotlib.rcParams)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "__init__", noted)
        paths = write_paper(result, folder)
    return Written(folder, paths, made, (before, dict(matplotlib.rcParams)))


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    return write_and_watch(paper_cases.full_result(), tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return folder, write_paper(paper_cases.plain_result(), folder)


@pytest.fixture(scope="module")
def full(watched):
    return watched.folder, watched.paths


def figures(paths):
    return {path.stem for path in paths if path.suffix == ".pdf"}


def rows(folder, table):
    """The cells of the table's body."""
    lines = (folder / f"{table}.tex").read_text(encoding="utf-8").splitlines()
    return [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in lines[5:] if line.endswith(r"\\")]


def test_what_is_returned_is_what_is_there(full):
    folder, paths = full
    assert sorted(paths) == sorted(folder.iterdir())


def test_a_study_has_the_figures_that_it_has_data_for(plain, full):
    assert figures(plain[1]) == ALWAYS
    assert figures(full[1]) == ALWAYS | ONLY_WITH_DATA


def test_a_table_without_rows_is_not_written(plain, full):
    assert {path.stem for path in plain[1] if path.suffix == ".tex"} == {
        "results", "comparisons", "overhead", "ranking",
    }  # fmt: skip
    assert {"robustness", "tuned"} <= {path.stem for path in full[1]}


def test_every_figure_is_a_whole_pdf_with_truetype_fonts_and_no_date(full):
    for path in (path for path in full[1] if path.suffix == ".pdf"):
        content = path.read_bytes()
        assert content.startswith(b"%PDF-1.")
        assert content.rstrip().endswith(b"%%EOF")
        assert b"/Type3" not in content
        assert b"CreationDate" not in content


def test_every_picture_is_as_wide_as_one_column_or_two(full):
    for path in (path for path in full[1] if path.suffix == ".png"):
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        assert width in (650, 1350), path.name  # 3.25 and 6.75 inches at 200 a inch
        assert 150 < height < 1800


def test_pdf_and_png_come_in_pairs(full):
    assert figures(full[1]) == {path.stem for path in full[1] if path.suffix == ".png"}


def test_the_results_are_the_medians_and_quartiles_of_the_seeds(plain):
    hostile = escape(paper_cases.HOSTILE_ARM)
    assert rows(plain[0], "results") == [
        ["Digits MLP", "AdamW", r"92.0~\%", r"[91.0~\%, 93.0~\%]", "5", "0"],
        ["", hostile, r"\textbf{94.0~\%}", r"[93.0~\%, 95.0~\%]", "5", "0"],
        ["", "SGD", "--", "--", "5", "5"],
        ["Documentation GPT", "AdamW", "22.0", "[20.0, 24.0]", "5", "0"],
        ["", hostile, r"\textbf{20.0}", "[18.0, 22.0]", "5", "0"],
        ["", "SGD", "32.0", "[30.0, 34.0]", "5", "0"],
    ]


def test_the_comparisons_are_paired_and_corrected(plain):
    # five equal signs: p = 2 / 2^5 = 0.0625, twice that for two comparisons
    digits, gpt = rows(plain[0], "comparisons")
    assert digits[2:] == ["AdamW", "$+2.0$", "[$+2.0$, $+2.0$]", "0.125", "1.00", "5"]
    assert gpt[2:] == ["AdamW", "$-2.00$", "[$-2.00$, $-2.00$]", "0.125", "$-1.00$", "5"]


def test_the_overhead_is_against_the_reference(plain):
    # 12 evaluations and 20 ms in 10 steps, against 10 and 10 ms
    assert rows(plain[0], "overhead")[1][2:] == ["1.20", r"$+20$~\%", "2.00", r"$+100$~\%", "2.5", "--"]


def test_the_ranking_is_the_mean_of_ranks(plain):
    assert [row[:2] for row in rows(plain[0], "ranking")] == [
        [escape(paper_cases.HOSTILE_ARM), "1.00"],
        ["AdamW", "2.00"],
        ["SGD", "3.00"],
    ]


def test_what_was_tuned_is_listed(full):
    chosen = rows(full[0], "tuned")[0]
    assert chosen[:2] == ["Digits MLP", "AdamW"]
    assert chosen[2] == "$10^{-3}$"  # of the runs that count
    assert chosen[-1] == r"80.0~\%"


def test_a_range_of_learning_rates_is_counted(full):
    bare, wrapped = rows(full[0], "robustness")
    assert bare[3:] == ["1 of 2", "--", r"90.0~\%"]
    assert wrapped[3:] == ["2 of 2", r"90.0~\%", r"92.0~\%"]


def test_latex_is_balanced_and_its_rows_are_full(full):
    for path in (path for path in full[1] if path.suffix == ".tex"):
        body = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("%"))
        bare = re.sub(r"\\[\\{}$&%#_]", "", body)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert body.count(r"\begin{tabular}") == body.count(r"\end{tabular}") == 1
        num_columns = len(re.search(r"\\begin\{tabular\}\{([lrc]+)\}", body)[1])
        for row in (line for line in body.splitlines() if line.endswith(r"\\")):
            assert len(re.findall(r"(?<!\\)&", row)) == num_columns - 1, row


def test_the_same_study_gives_the_same_bytes_in_another_process(plain, tmp_path):
    _, paths = plain
    code = (
        "import sys, pathlib; from helpers import paper_cases; from dcao_lab.report.paper import write_paper;"
        "write_paper(paper_cases.plain_result(), pathlib.Path(sys.argv[1]))"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": path, "SOURCE_DATE_EPOCH": "1000000000"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    for path in paths:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_no_figure_outlives_its_file(watched):
    gc.collect()
    assert len(watched.figures) >= len(ALWAYS | ONLY_WITH_DATA)
    assert not [figure for figure in watched.figures if figure() is not None]


def test_the_settings_of_matplotlib_are_left_alone(watched):
    before, after = watched.settings
    assert before == after


def test_the_note_of_the_comparisons_names_the_interval_the_test_and_what_is_bold(full):
    folder, _ = full
    note = (folder / "comparisons.tex").read_text(encoding="utf-8").splitlines()[0]
    assert r"The interval is the 95 \% bootstrap interval" in note
    assert "p is of the signed-rank test, p (Holm) the same after Holm's correction, in bold if" in note
