"""Wheel and sdist: built from a copy of the sources, checked, and used from an environment that holds nothing else.

Nothing is downloaded: the build uses the setuptools that is installed (`dcao[test]`), and the empty environment borrows
torch and the rest through a .pth file, which makes no editable install visible. About 15 seconds in all.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="dcao[test] is not installed")
pytest.importorskip("twine", reason="dcao[test] is not installed")

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "docs", "examples", "src", "tests", "website")
FILES = (
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "mkdocs.yml",
    "pyproject.toml",
)
TRAINING = """
import dcao, torch
from pathlib import Path
assert Path(dcao.__file__).is_relative_to({environment!r}), dcao.__file__
torch.manual_seed(0)
x, model = torch.randn(256, 10), torch.nn.Linear(10, 3)
y = x[:, :3].argmax(dim=1)
optimizer = dcao.DCAO(torch.optim.AdamW(model.parameters(), lr=1e-7), total_steps=20)
losses = [optimizer.minimize(lambda: torch.nn.functional.cross_entropy(model(x), y)).item() for _ in range(20)]
print(optimizer.num_steps, losses[-1] < losses[0], optimizer.param_groups[0]["lr"] > 1e-7)
"""
REPORT = """
import sys, dcao_lab
from pathlib import Path
assert Path(dcao_lab.__file__).is_relative_to({environment!r}), dcao_lab.__file__
sys.path.append({tests!r})
from dcao_lab.report.html import write_study_report
from helpers.report_studies import ADAMW, SGD, finals, result_of, study
page = write_study_report(result_of(study(ADAMW, SGD), finals(ADAMW, [0.5, 0.6]), finals(SGD, [0.4])), Path("page"))[0]
assert "<style>" in page.read_text() and "</html>" in page.read_text()
"""


def run(*command, cwd):
    """Output of a command that sees no PYTHONPATH; this checkout would come first there."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_in(folder):
    """Its files, without the folder of metadata that setuptools writes into the sources."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {str(file) for file in files if not file.parts[0].endswith(".egg-info")}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the sources: a build writes into the folder that it builds."""
    folder = tmp_path_factory.mktemp("sources")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    for name in (*FOLDERS, "results"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def distributions(sources, tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), ".", cwd=sources)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def environment(distributions, tmp_path_factory):
    """An environment with the wheel in it and, behind it, the packages that run this test."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", str(folder), cwd=folder)
    python = folder / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(distributions[1]), cwd=folder)
    own = run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (Path(own) / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return folder


def test_twine_finds_nothing_to_complain_about(distributions):
    output = run(sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions), cwd=ROOT)
    assert output.count("PASSED") == 2


def test_the_wheel_holds_the_packages_whole_and_nothing_else(distributions, sources):
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
    about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert names - about == files_in(sources / "src")
    assert any(name.endswith("/licenses/LICENSE") for name in about)
    assert "dcao/py.typed" in names
    assert {Path(name).suffix for name in names if "/report/" in name} == {".py", ".html", ".css", ".js"}


def test_the_sdist_holds_tests_docs_and_licence(distributions, sources):
    with tarfile.open(distributions[0]) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    wanted = {f"{folder}/{name}" for folder in FOLDERS for name in files_in(sources / folder)}
    assert {*FILES, *wanted} - names == set()
    assert not any(name.endswith(".pyc") or "/." in name for name in names)


def test_the_installed_library_trains(environment):
    code = TRAINING.format(environment=str(environment))
    output = run(str(environment / "bin" / "python"), "-c", code, cwd=environment)
    assert output.split() == ["20", "True", "True"]


def test_the_installed_lab_answers(environment):
    output = run(str(environment / "bin" / "dcao-lab"), "--help", cwd=environment)
    assert all(command in output for command in ("demo", "study", "run"))


def test_the_installed_lab_writes_a_report(environment):
    """The template, the style and the script of the page are found where pip has put them."""
    code = REPORT.format(tests=str(ROOT / "tests"), environment=str(environment))
    run(str(environment / "bin" / "python"), "-c", code, cwd=environment)
