"""What the library may import, what it promises in public, and what the lab may use of it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dcao

SOURCE = Path(dcao.__file__).parent
LAB = SOURCE.parent / "dcao_lab"
LIBRARY_FILES = sorted(SOURCE.rglob("*.py"))
LAB_FILES = sorted(LAB.rglob("*.py"))
HEAVY = [
    "dcao_lab",
    "scipy",
    "statsmodels",
    "sklearn",
    "matplotlib",
    "pandas",
    "jinja2",
    "plotly",
    "typer",
    "rich",
    "tensorboard",
    "wandb",
    "trackio",
    "accelerate",
    "lightning",
    "transformers",
    "dcao.integrations",
]
ALLOWED = {"dcao", "torch", *sys.stdlib_module_names}
BESIDE = {"integrations": {"accelerate", "lightning", "transformers"}, "plotting": {"matplotlib"}}
"""What modules of a folder may import beside; they are the only ones that do."""
# public without a callable's docstring: modules, which have pages of their own
MODULES = {name for name in dcao.__all__ if inspect.ismodule(getattr(dcao, name))}


def test_importing_the_library_loads_torch_and_nothing_heavy_of_its_own():
    code = (
        "import sys, torch; before = set(sys.modules); import dcao; "
        f"print(sorted(name for name in {HEAVY} if name in set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: a relative import"
            yield node.module, node.lineno


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_library_imports_torch_and_the_standard_library_alone(path):
    allowed = ALLOWED | BESIDE.get(path.parent.name, set())
    for module, line in imported_modules(path):
        assert module.split(".")[0] in allowed, f"line {line} imports {module}"


def lab_uses(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names under ``dcao`` that a file of the lab mentions, without the ``dcao.``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dcao":
            prefix = node.module.split(".")[1:]
            yield from ((".".join([*prefix, alias.name]), node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name[5:], node.lineno) for a in node.names if a.name.startswith("dcao."))
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if dotted.startswith("dcao.") and dotted.replace(".", "").isidentifier():
                yield dotted[5:], node.lineno


@pytest.mark.parametrize("path", LAB_FILES, ids=lambda path: str(path.relative_to(LAB)))
def test_the_lab_uses_public_names_of_the_library_alone(path):
    for name, line in lab_uses(path):
        first, *rest = name.split(".")
        assert first in dcao.__all__, f"line {line} uses dcao.{name}"
        if first in MODULES and rest:
            assert rest[0] in getattr(dcao, first).__all__, f"line {line} uses dcao.{name}"


PUBLIC = {name: getattr(dcao, name) for name in dcao.__all__ if name not in MODULES}
PUBLIC |= {f"policies.{name}": getattr(dcao.policies, name) for name in dcao.policies.__all__}
DOCUMENTED = {name: value for name, value in PUBLIC.items() if inspect.isclass(value) or inspect.isfunction(value)}
FUNCTIONS = {name: value for name, value in DOCUMENTED.items() if inspect.isfunction(value)}


def test_the_public_names_are_sorted_and_there():
    assert dcao.__all__ == sorted(dcao.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for module in (dcao.policies, dcao.schedules):
        assert module.__doc__


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_has_a_docstring_of_its_own(name):
    first_line = (DOCUMENTED[name].__doc__ or "").strip().split("\n")[0]
    assert len(first_line) > 20, first_line
    assert not first_line.startswith(DOCUMENTED[name].__name__ + "("), "made by dataclass"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_proves_itself_by_an_example(name):
    docstring = inspect.getdoc(FUNCTIONS[name]) or ""
    assert "Example:\n    >>> " in docstring
