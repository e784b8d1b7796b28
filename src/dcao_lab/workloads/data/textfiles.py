"""Reads the lines of a text corpus from its original text files, its archive, Parquet files, or the hub."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow.parquet

from dcao_lab.errors import LabError
from dcao_lab.workloads.base import SplitName
from dcao_lab.workloads.data.folders import HUB_TIMEOUT, extra

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
COLUMNS = ("text", "sentence")  # names of the text column of WikiText and PTB on the hub

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """A repository on the Hugging Face hub.

    Attributes:
        title: Name of its content in messages.
        repository: Name of the repository.
        kind: ``"dataset"`` or ``"model"``.
        revision: Branch of the repository.
        advice: How to get the files, for an error message.
    """

    title: str
    repository: str
    kind: str
    revision: str = "main"
    advice: str


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """The places where a text corpus may be.

    Attributes:
        needs: The files in words, for the list of workloads.
        folders: Subfolders of the data folder that may hold it; the data folder itself comes last.
        files: The original text file of each split.
        archive: The original zip file with these files inside; None if there is none.
        hub: The data set on the hub, at the branch that has Parquet files.
        parquet: The Parquet file of each split in that branch.
    """

    needs: str
    folders: tuple[str, ...]
    files: dict[SplitName, str]
    archive: str | None
    hub: HubFiles
    parquet: dict[SplitName, str]


def read_lines(source: TextSource, split: SplitName, data_dir: Path | None) -> list[str]:
    """The lines of a split, without spaces at their ends; empty lines are included.

    Args:
        source: The corpus.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        data_dir: Folder of the data; None to use the hub, or its cache on this machine.

    Raises:
        LabError: The corpus is not there, or a file cannot be read.
    """
    if data_dir is None:
        return _parquet_lines([hub_file(source.hub, source.parquet[split])])
    for folder in places(data_dir, source.folders):
        lines = _lines_in(folder, source, split)
        if lines is not None:
            return lines
    raise _missing(source, split, data_dir)


def places(data_dir: Path, folders: Sequence[str]) -> list[Path]:
    """The existing ones of the subfolders ``folders``, then ``data_dir`` itself if it exists."""
    return [folder for folder in (*(data_dir / name for name in folders), data_dir) if folder.is_dir()]


def hub_file(files: HubFiles, name: str) -> Path:
    """The path of a file of the hub, in its cache on this machine; the file is downloaded if it is not there.

    Raises:
        LabError: It is not in the cache and could not be downloaded. Without a network this takes 5 seconds at most.
    """
    hub = extra("huggingface_hub", f"{files.title} from the hub")
    request = {
        "repo_id": files.repository,
        "filename": name,
        "repo_type": files.kind,
        "revision": files.revision,
    }
    try:
        return Path(hub.hf_hub_download(**request, local_files_only=True))
    except OSError:  # not in the cache
        pass
    try:
        # One request, because the client itself would try six times, which takes 23 s without a network.
        hub.utils.get_session().head(hub.constants.ENDPOINT, timeout=HUB_TIMEOUT)
        return Path(hub.hf_hub_download(**request, etag_timeout=HUB_TIMEOUT))
    except Exception as error:  # the version of the client decides whether it is of httpx, of requests or its own
        raise LabError(
            f"{files.title} is missing: {files.repository}/{name} is not in the hub's cache on this machine and could "
            f"not be downloaded ({type(error).__name__}); {files.advice}"
        ) from error


def _missing(source: TextSource, split: SplitName, data_dir: Path) -> LabError:
    names = [source.files[split], *([source.archive] if source.archive else []), f"{split}*.parquet"]
    return LabError(
        f"{source.hub.title} is missing: none of {', '.join(names)} is in {data_dir} or its subfolders "
        f"{', '.join(source.folders)}; {source.hub.advice}"
    )


def _lines_in(folder: Path, source: TextSource, split: SplitName) -> list[str] | None:
    name = source.files[split]
    if (folder / name).is_file():
        return _reading(folder / name, lambda path: _split_lines(path.read_bytes()))
    if source.archive is not None and (folder / source.archive).is_file():
        return _reading(folder / source.archive, lambda path: _zipped_lines(path, name))
    found = _parquet_files(folder, split)
    return _parquet_lines(found) if found else None


def _parquet_files(folder: Path, split: SplitName) -> list[Path]:
    """Parquet files of a split, named as on the hub: ``train-00000-of-00001.parquet`` or ``train/0000.parquet``."""
    return sorted([*folder.glob(f"{split}*.parquet"), *folder.glob(f"{split}/*.parquet")])


def _split_lines(content: bytes) -> list[str]:
    """The lines, split at line feeds only; ``str.splitlines`` would also split at rarer characters."""
    return [line.strip() for line in content.decode("utf-8").removesuffix("\n").split("\n")]


def _zipped_lines(path: Path, name: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        inside = [entry for entry in archive.namelist() if Path(entry).name == name]
        if not inside:
            raise ValueError(f"there is no {name} in it")
        return _split_lines(archive.read(inside[0]))


def _parquet_lines(paths: Sequence[Path]) -> list[str]:
    return [line.strip() for path in paths for line in _reading(path, _parquet_column)]


def _parquet_column(path: Path) -> list[str]:
    file = pyarrow.parquet.ParquetFile(path)
    column = next((name for name in COLUMNS if name in file.schema_arrow.names), None)
    if column is None:
        raise ValueError(f"it has columns {', '.join(file.schema_arrow.names)} and none called {' or '.join(COLUMNS)}")
    if file.metadata.num_rows == 0:
        raise ValueError("it has no lines")
    lines: list[str] = file.read(columns=[column])[column].to_pylist()
    return lines


def _reading(path: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:  # ValueError: wrong encoding, or not Parquet
        raise LabError(f"{path} cannot be read: {error}; get the file again") from error
