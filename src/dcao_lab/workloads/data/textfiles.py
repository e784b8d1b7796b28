"""Lines of a text corpus, from the files people have: its original text files, its archive, Parquet, or the hub."""

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
COLUMNS = ("text", "sentence")  # what WikiText and PTB call it on the hub

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """A repository of the hub.

    Attributes:
        title: What messages call what is in it.
        repository: Its name.
        kind: ``"dataset"`` or ``"model"``.
        revision: Branch of it.
        advice: How a person gets the files.
    """

    title: str
    repository: str
    kind: str
    revision: str = "main"
    advice: str


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where a corpus is found.

    Attributes:
        needs: The files, in words.
        folders: Subfolders of the data folder that may hold it; the data folder itself is looked at last.
        files: Its original text file for each split.
        archive: Its original zip file, which has these files inside; None: there is none.
        hub: Its data set on the hub, at the branch that has Parquet files.
        parquet: File of that for each split.
    """

    needs: str
    folders: tuple[str, ...]
    files: dict[SplitName, str]
    archive: str | None
    hub: HubFiles
    parquet: dict[SplitName, str]


def read_lines(source: TextSource, split: SplitName, data_dir: Path | None) -> list[str]:
    """The lines of a split without the spaces around them; empty ones too, where the files have them.

    Raises:
        LabError: They are not in ``data_dir``, or without one on the hub; or the file cannot be read.
    """
    if data_dir is None:
        return _parquet_lines([hub_file(source.hub, source.parquet[split])])
    for folder in places(data_dir, source.folders):
        lines = _lines_in(folder, source, split)
        if lines is not None:
            return lines
    raise _missing(source, split, data_dir)


def places(data_dir: Path, folders: Sequence[str]) -> list[Path]:
    """Those of the subfolders that exist, then the folder itself."""
    return [folder for folder in (*(data_dir / name for name in folders), data_dir) if folder.is_dir()]


def hub_file(files: HubFiles, name: str) -> Path:
    """A file of the hub: from its cache on this machine, or downloaded into it.

    Raises:
        LabError: It is in neither; at once where there is no network.
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
        # Asked once: the client itself would try six times, which without a network takes 23 s.
        hub.utils.get_session().head(hub.constants.ENDPOINT, timeout=HUB_TIMEOUT)
        return Path(hub.hf_hub_download(**request, etag_timeout=HUB_TIMEOUT))
    except Exception as error:  # of httpx, of requests, or of the hub's client, by its version
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
    """``train-00000-of-00001.parquet`` and ``train.parquet``, or ``train/0000.parquet``, as the hub has them."""
    return sorted([*folder.glob(f"{split}*.parquet"), *folder.glob(f"{split}/*.parquet")])


def _split_lines(content: bytes) -> list[str]:
    """Lines that end with a line feed; ``str.splitlines`` would also split at rarer characters within a line."""
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
