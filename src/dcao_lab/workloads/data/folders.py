"""Where the data of the full-size workloads is: in a folder, or on the Hugging Face hub."""

import contextlib
import importlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from dcao_lab.errors import LabError

HUB_TIMEOUT = 5.0  # seconds until the hub counts as out of reach; its library alone tries for 23


def extra(module: str, what: str) -> ModuleType:
    """A module of the extra ``data``, imported here because that takes seconds; ``what`` needs it.

    Raises:
        LabError: It is not installed.

    Example:
        >>> extra("no_such_module", "GPT-2")
        Traceback (most recent call last):
        ...
        dcao_lab.errors.LabError: GPT-2 needs no_such_module, which is not installed; pip install 'dcao[data]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LabError(f"{what} needs {module}, which is not installed; pip install 'dcao[data]'") from error


def find_folder(title: str, name: str, data_dir: Path) -> Path:
    """``data_dir/name`` if there is one, so that one ``--data-dir`` serves many data sets; else ``data_dir`` itself.

    Raises:
        LabError: ``data_dir`` is not a folder.
    """
    if not data_dir.is_dir():
        raise LabError(f"{title} was looked for in {data_dir}, which is not a folder; give --data-dir its folder")
    inner = data_dir / name
    return inner if inner.is_dir() else data_dir


def parquet_files(folder: Path, split_names: tuple[str, ...]) -> list[str]:
    """The folder's Parquet files of a split, at any depth: ``train-00000-of-00001.parquet`` or ``train/0.parquet``."""
    files = sorted(folder.rglob("*.parquet"))
    for name in split_names:
        if chosen := [str(file) for file in files if file.name.startswith(name) or file.parent.name == name]:
            return chosen
    return []


def load_from_hub(title: str, hub: str, how_else: str, **options: Any) -> Any:
    """What ``datasets.load_dataset(hub, **options)`` returns: downloaded once, then from its cache.

    Raises:
        LabError: The hub is out of reach or refuses, and the cache has nothing; the message ends with ``how_else``.
    """
    datasets = extra("datasets", title)
    is_reachable = not datasets.config.HF_HUB_OFFLINE and _is_reachable(datasets.config.HF_ENDPOINT)
    try:
        with _from_cache_alone(datasets, not is_reachable):
            return datasets.load_dataset(hub, **options)
    except Exception as error:  # of the libraries below: httpx's, huggingface_hub's, pyarrow's have no common base
        reason = one_line(error) if is_reachable else "the hub is out of reach, and nothing in the cache"
        raise LabError(
            f"{title} could not be loaded from the Hugging Face hub as {hub} ({reason}); "
            f"connect to the network, or give --data-dir a folder with {how_else}"
        ) from error


@contextlib.contextmanager
def unreadable_is_clear(title: str, place: object) -> Iterator[None]:
    """Turns what goes wrong in reading data into a sentence.

    Raises:
        LabError: Anything went wrong.
    """
    try:
        yield
    except LabError:
        raise
    except Exception as error:  # a broken gzip, pickle, PNG and Parquet file each have their own, without common base
        reason = one_line(error)
        raise LabError(f"{title} in {place} cannot be read ({reason}); put an unbroken copy there") from error


def one_line(error: BaseException) -> str:
    """The error's first line, or its type when it says nothing.

    Example:
        >>> one_line(EOFError())
        'EOFError'
    """
    return next((line.rstrip(" .") for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def _from_cache_alone(datasets: ModuleType, is_offline: bool) -> Iterator[None]:
    """Sets the switch that ``HF_HUB_OFFLINE`` sets at import; ``datasets`` then does not try the network at all."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = is_offline
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _is_reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_TIMEOUT):
            return True
    except urllib.error.HTTPError as error:  # an answer, whatever it says
        error.close()
        return True
    except OSError:
        return False
