"""Texts that come with Python and with packages that the lab needs; their versions decide what exactly is in them."""

import importlib.metadata
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from pydoc_data.topics import topics

from dcao_lab.errors import LabError

LICENCES = (  # where each begins and ends
    ("GNU GENERAL PUBLIC LICENSE\\s+Version 3", "first, please read"),
    ("A. HISTORY OF THE SOFTWARE", "WITH THE USE OR PERFORMANCE\\s+OF THIS SOFTWARE"),
    ("Apache License\\s+Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"),
)


def documentation() -> str:
    """Python's documentation of its language, about 460 kB."""
    return "\n".join(topics[name] for name in sorted(topics))


@cache
def licences() -> str:
    """The licences GPL 3, of Python, and Apache 2.0 in full, 59 kB, from packages that ship them."""
    shipped = "\n".join(_licence_files("numpy", "scipy", "pandas", "pyarrow"))
    whole = [re.search(f"{first}.*?{last}", shipped, re.DOTALL) for first, last in LICENCES]
    if not all(whole):
        _missing("three licences that the wheels of numpy, pandas and pyarrow have")
    return "\n\n".join(found[0] for found in whole if found)


@cache
def dataset_descriptions() -> str:
    """What scikit-learn says about its data sets, about 43 kB of prose and tables."""
    folder = files("sklearn.datasets").joinpath("descr")
    found = [path for path in folder.iterdir() if path.name.endswith(".rst")]
    texts = [path.read_text(encoding="utf-8") for path in sorted(found, key=lambda path: path.name)]
    return "\n".join(texts) or _missing("scikit-learn's descriptions of its data sets")


@cache
def library_source() -> str:
    """The source code of Python's standard library, several MB: its modules in the order of their names."""
    found = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in found]
    return "\n".join(texts) or _missing("the source code of Python's standard library")


def _missing(what: str) -> str:
    raise LabError(f"this workload reads {what}, which this installation lacks; install from the usual wheels")


def _licence_files(*packages: str) -> Iterator[str]:
    for package in packages:
        for path in importlib.metadata.files(package) or ():
            if "LICENSE" in path.name.upper():
                yield Path(path.locate()).read_text(encoding="utf-8", errors="replace")
