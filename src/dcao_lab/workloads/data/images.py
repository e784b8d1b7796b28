"""Reads images from any form of a data set: the authors' files, Parquet files, an image folder, or the hub."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcao_lab.errors import LabError
from dcao_lab.workloads.base import generator
from dcao_lab.workloads.data.augment import normalised, to_tensor
from dcao_lab.workloads.data.folders import (
    extra,
    find_folder,
    load_from_hub,
    parquet_files,
    unreadable_is_clear,
)
from dcao_lab.workloads.data.image_files import Images

SPLIT_SEED = 0  # one split for every run, so that runs differ by their training alone
TABLE_SIZE = 1000  # number of rows read at once


@dataclass(frozen=True, kw_only=True)
class VisionSource:
    """A data set of images, and the places where it may be.

    Attributes:
        title: Name of the data set in messages.
        folder: Name of its folder in a ``--data-dir`` that holds several data sets.
        hub: Its name on the Hugging Face hub.
        image: Name of the column of images on the hub.
        label: Name of the column of labels on the hub.
        num_classes: Number of classes.
        shape: Channels, height and width of every image; None if images differ.
        mean: Mean of each channel of the training images, between 0 (black) and 1 (white).
        std: Standard deviation of each channel, in the same unit.
        test_names: Possible names of the test split, in files and on the hub; the first that exists is used.
        read_original: Reads the authors' files in a folder, and returns None if there are none; None if it cannot.
        original: The authors' files in words, for an error message.
        num_validation: Number of training images held out for validation, but a tenth of them at most.
    """

    title: str
    folder: str
    hub: str
    image: str
    label: str
    num_classes: int
    shape: tuple[int, int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_names: tuple[str, ...] = ("test", "validation", "val")
    read_original: Callable[[Path], dict[str, Images] | None] | None = None
    original: str | None = None
    num_validation: int = 5000

    @property
    def forms(self) -> str:
        """The forms that the data may have in a folder, in words for an error message."""
        test = self.test_names[0]
        first = f"{self.original}, " if self.original else ""
        parquet, images = f"train*.parquet, {test}*.parquet", f"train/CLASS/*, {test}/CLASS/*"
        return f"{first}Parquet files ({parquet}) or an image folder ({images})"

    def normalised(self, images: Tensor) -> Tensor:
        """Images of bytes as numbers whose channels have mean 0 and standard deviation 1 over the training images."""
        return normalised(images, self.mean, self.std)


@lru_cache(maxsize=2)  # the runs of a study use the same data; CIFAR has 184 MB
def load_images(source: VisionSource, data_dir: Path | None) -> dict[str, Images]:
    """All training and test images, as bytes.

    Raises:
        LabError: The images are not there, or a file is broken.
    """
    if data_dir is None:
        return _decoded_splits(source, load_rows(source, None), f"the cache of {source.hub}")
    folder = find_folder(source.title, source.folder, data_dir)
    with unreadable_is_clear(source.title, folder):
        originals = source.read_original(folder) if source.read_original else None
        if originals is None:
            return _decoded_splits(source, load_rows(source, data_dir), folder)
        return {name: _checked(images, source, f"{folder} ({name})") for name, images in originals.items()}


def load_rows(source: VisionSource, data_dir: Path | None, *, streaming: bool = True) -> dict[str, Any]:
    """The training and test split as objects of ``datasets``, whose images are still encoded.

    With ``streaming`` they are read file by file and leave nothing on the disk. Without it they are mapped into memory
    from the cache of ``datasets``, which allows access to any row.

    Raises:
        LabError: The images are not there, or a file is broken.
    """
    if data_dir is None:
        splits = load_from_hub(source.title, source.hub, source.forms)
        return {"train": _encoded(splits["train"], source), "test": _encoded(_first(splits, source), source)}
    folder = find_folder(source.title, source.folder, data_dir)
    form, files = _find_files(source, folder)
    with unreadable_is_clear(source.title, folder):
        load = extra("datasets", source.title).load_dataset
        splits = load(form, data_files=files, streaming=streaming)
        return {name: _encoded(rows, source) for name, rows in splits.items()}


def _find_files(source: VisionSource, folder: Path) -> tuple[str, dict[str, Any]]:
    """The form of the data in the folder and its files, as arguments of ``datasets.load_dataset``."""
    train, test = parquet_files(folder, ("train",)), parquet_files(folder, source.test_names)
    if train and test:
        return "parquet", {"train": train, "test": test}
    test_folders = [folder / name for name in source.test_names if (folder / name).is_dir()]
    if (folder / "train").is_dir() and test_folders:
        return "imagefolder", {"train": f"{folder}/train/**", "test": f"{test_folders[0]}/**"}
    present = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
    raise LabError(
        f"{source.title} is not in {folder}, which has {present}; put there {source.forms}, "
        f"or leave --data-dir out to load {source.hub} from the Hugging Face hub"
    )


def _first(splits: Any, source: VisionSource) -> Any:
    return next(splits[name] for name in source.test_names if name in splits)


def _encoded(rows: Any, source: VisionSource) -> Any:
    """The rows with the columns ``image``, not decoded, and ``label``, as Arrow tables.

    Rows as dictionaries take 27 times as long: two minutes for CIFAR.
    """
    image, label = (_column(rows, names, source) for names in ((source.image, "image"), (source.label, "label")))
    rows = rows.select_columns([image, label])
    for old, new in ((image, "image"), (label, "label")):
        rows = rows if old == new else rows.rename_column(old, new)
    return rows.with_format("arrow")


def _column(rows: Any, names: tuple[str, ...], source: VisionSource) -> str:
    present = rows.column_names or []
    for name in names:
        if name in present:
            return name
    raise LabError(f"{source.title} needs a column {names[0]!r} in every split, got {', '.join(present) or 'none'}")


def _decoded_splits(source: VisionSource, splits: dict[str, Any], place: object) -> dict[str, Images]:
    with unreadable_is_clear(source.title, place):
        return {name: _checked(_decoded(rows, source), source, f"{place} ({name})") for name, rows in splits.items()}


def _decoded(rows: Any, source: VisionSource) -> Images:
    assert source.shape is not None
    mode = "L" if source.shape[0] == 1 else "RGB"
    images: list[Tensor] = []
    labels: list[int] = []
    for table in rows.iter(batch_size=TABLE_SIZE):
        images += [to_tensor(open_image(encoded).convert(mode)) for encoded in table.column("image").to_pylist()]
        labels += table.column("label").to_pylist()
    return torch.stack(images) if images else torch.empty(0), torch.tensor(labels, dtype=torch.long)


def open_image(encoded: dict[str, Any]) -> Any:
    """The PIL image of an undecoded entry of ``datasets``, which has the bytes of a file or its path.

    Raises:
        ValueError: The file is not an image; the message names it.
    """
    pillow = extra("PIL.Image", "reading images")
    content = encoded["bytes"]
    try:
        image = pillow.open(encoded["path"] if content is None else io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise ValueError(f"{encoded['path'] or 'an image'} is broken: {error}") from error
    return image


def _checked(images: Images, source: VisionSource, place: str) -> Images:
    pixels, labels = images
    if len(pixels) == 0 or len(pixels) != len(labels):
        raise LabError(f"{source.title} in {place} has {len(pixels)} images and {len(labels)} labels; load it again")
    if tuple(pixels.shape[1:]) != source.shape:
        raise LabError(f"{source.title} has images of shape {source.shape}, got {tuple(pixels.shape[1:])} in {place}")
    check_labels(labels, source, place)
    return images


def check_labels(labels: Tensor, source: VisionSource, place: object) -> None:
    """Check that every label is a class of the data set.

    Raises:
        LabError: A label is out of range.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= source.num_classes:
        raise LabError(f"{source.title} has labels 0 to {source.num_classes - 1}, got {low} to {high} in {place}")


def held_out(labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Indices of the examples for training, and of ``number`` for validation, with the same share of each class.

    At most a tenth of the examples is held out.
    """
    number = min(number, len(labels) // 10)
    order = torch.randperm(len(labels), generator=generator(SPLIT_SEED, purpose=0))
    by_class = order[labels[order].argsort(stable=True)]
    places = (torch.arange(number) * len(labels)) // max(number, 1)  # evenly spaced, so that each class gives its share
    is_held_out = torch.zeros(len(labels), dtype=torch.bool)
    is_held_out[by_class[places]] = True
    return (~is_held_out).nonzero().flatten(), is_held_out.nonzero().flatten()
