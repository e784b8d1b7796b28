"""Finds the data of the full-size workloads: in a folder, or on the Hugging Face hub."""

import contextlib
import importlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from dcao_lab.errors import LabError

HUB_TIMEOUT = 5.0  # seconds after which the hub counts as out of reach; its own library would try for 23


def extra(module: str, what: str) -> ModuleType:
    """A module of the extra ``data``, imported on first use because that takes seconds.

    Args:
        module: Name of the module.
        what: The thing that needs it, for the error message.

    Raises:
        LabError: It is not installed.

    Example:
        >>> extra("no_such_module", "GPT-2")
        Traceback (most recent call last):
        ...
        dcao_lab.errors.LabError: GPT-2 needs no_such_module, which is not installed; pip install '.[data]' in a clone
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LabError(f"{what} needs {module}, which is not installed; pip install '.[data]' in a clone") from error


def find_folder(title: str, name: str, data_dir: Path) -> Path:
    """``data_dir/name`` if that folder exists, so that a ``--data-dir`` can hold many data sets; else ``data_dir``.

    Raises:
        LabError: ``data_dir`` is not a folder.
    """
    if not data_dir.is_dir():
        raise LabError(f"{title} was looked for in {data_dir}, which is not a folder; give --data-dir its folder")
    inner = data_dir / name
    return inner if inner.is_dir() else data_dir


def parquet_files(folder: Path, split_names: tuple[str, ...]) -> list[str]:
    """Parquet files of a split at any depth, such as ``train-00000-of-00001.parquet`` or ``train/0.parquet``.

    The result is for the first of ``split_names`` that has any, and empty if none has.
    """
    files = sorted(folder.rglob("*.parquet"))
    for name in split_names:
        if chosen := [str(file) for file in files if file.name.startswith(name) or file.parent.name == name]:
            return chosen
    return []


def load_from_hub(title: str, hub: str, how_else: str, **options: Any) -> Any:
    """The result of ``datasets.load_dataset(hub, **options)``: downloaded once, and from its cache afterwards.

    Raises:
        LabError: The hub cannot be reached or refuses, and the cache has nothing; the message ends with ``how_else``.
    """
    datasets = extra("datasets", title)
    is_reachable = not datasets.config.HF_HUB_OFFLINE and _is_reachable(datasets.config.HF_ENDPOINT)
    try:
        with _from_cache_alone(datasets, not is_reachable):
            return datasets.load_dataset(hub, **options)
    except Exception as error:  # those of httpx, huggingface_hub and pyarrow have no common base
        reason = one_line(error) if is_reachable else "the hub cannot be reached, and its cache lacks it"
        raise LabError(
            f"{title} could not be loaded from the Hugging Face hub as {hub} ({reason}); "
            f"connect to the network, or give --data-dir a folder with {how_else}"
        ) from error


@contextlib.contextmanager
def unreadable_is_clear(title: str, place: object) -> Iterator[None]:
    """Context that turns any error while data is read into a LabError with a clear message.

    Raises:
        LabError: An error was raised inside; the message names the data and the place.
    """
    try:
        yield
    except LabError:
        raise
    except Exception as error:  # a broken gzip, pickle, PNG or Parquet file raises its own
        reason = one_line(error)
        raise LabError(f"{title} in {place} cannot be read ({reason}); replace it by an intact copy") from error


def one_line(error: BaseException) -> str:
    """The first line of the error's message, or the name of its type if the message is empty.

    Example:
        >>> one_line(EOFError())
        'EOFError'
    """
    return next((line.rstrip(" .") for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def _from_cache_alone(datasets: ModuleType, is_offline: bool) -> Iterator[None]:
    """Context with the switch that ``HF_HUB_OFFLINE`` sets at import, which keeps ``datasets`` off the network."""
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
