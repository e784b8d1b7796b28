"""Reads MNIST and CIFAR from the files of their authors: idx files, and pickles of NumPy arrays."""

import codecs
import gzip
import io
import math
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcao_lab.errors import LabError

Images = tuple[Tensor, Tensor]  # uint8 (number, channels, height, width), and labels
Read = Callable[[str], bytes]
UNSIGNED_BYTES = 8  # code of this element type in idx files

# The objects that the pickles of CIFAR name, under their names in NumPy 1 and 2. The function comes from an array,
# because importing NumPy 1's name from NumPy 2 warns.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes for Python 2
}


@dataclass(frozen=True, kw_only=True)
class CifarFiles:
    """The names in the publication of a CIFAR data set.

    Attributes:
        archive: Name of the compressed file.
        folder: Name of the folder that it unpacks to.
        train: Names of the files with the training images, in order.
        test: Names of the files with the test images.
        labels: Key of the labels in these files; of CIFAR-100 the 100 fine ones.
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: bytes

    def read(self, folder: Path) -> dict[str, Images] | None:
        """The training and test images, from the archive or the folder it unpacks to; None if there is neither."""
        for place in (folder / self.folder, folder):
            if any((place / name).is_file() for name in (*self.train, *self.test)):
                return self._splits(partial(_file, place))
        if not (folder / self.archive).exists():
            return None
        with tarfile.open(folder / self.archive) as archive:
            return self._splits(lambda name: _member(archive, f"{self.folder}/{name}"))

    def _splits(self, read: Read) -> dict[str, Images]:
        return {"train": self._images(self.train, read), "test": self._images(self.test, read)}

    def _images(self, names: tuple[str, ...], read: Read) -> Images:
        batches = [load_arrays(read(name)) for name in names]
        pixels = np.concatenate([batch[b"data"] for batch in batches])  # rows: 1024 red, 1024 green, 1024 blue
        labels = [label for batch in batches for label in batch[self.labels]]
        return torch.from_numpy(pixels).reshape(-1, 3, 32, 32), torch.tensor(labels, dtype=torch.long)


CIFAR10 = CifarFiles(
    archive="cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    labels=b"labels",
)
CIFAR100 = CifarFiles(
    archive="cifar-100-python.tar.gz",
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    labels=b"fine_labels",
)


def read_mnist(folder: Path) -> dict[str, Images] | None:
    """MNIST's training and test images from idx files, compressed or not; None if there are none."""
    for place in (folder, folder / "raw", folder / "MNIST" / "raw"):
        if any(place.glob("train-images-idx3-ubyte*")):
            return {"train": _mnist_split(place, "train"), "test": _mnist_split(place, "t10k")}
    return None


def _mnist_split(folder: Path, name: str) -> Images:
    images = _read_idx(folder / f"{name}-images-idx3-ubyte").unsqueeze(1)
    return images, _read_idx(folder / f"{name}-labels-idx1-ubyte").long()


def _read_idx(path: Path) -> Tensor:
    """The array of an idx file: two zeros, the element type, the number of sizes, the sizes, the elements."""
    compressed = path.with_name(f"{path.name}.gz")
    if not path.exists() and not compressed.exists():
        raise LabError(f"MNIST in {path.parent} lacks {path.name} or {compressed.name}; put it there")
    content = path.read_bytes() if path.exists() else gzip.decompress(compressed.read_bytes())
    if content[:3] != bytes([0, 0, UNSIGNED_BYTES]):
        raise ValueError(f"{path.name} does not begin as an idx file of unsigned bytes does")
    start = 4 + 4 * content[3]
    sizes = np.frombuffer(content[4:start], dtype=">u4").tolist()
    if len(content) - start != math.prod(sizes):
        raise ValueError(f"{path.name} has {len(content) - start} bytes of data where {math.prod(sizes)} belong")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).view(sizes)


def _file(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    """A file in the archive, read without unpacking anything to the disk."""
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} in the archive is not a file")
    return file.read()


def load_arrays(content: bytes) -> dict[bytes, Any]:
    """The dictionary in a pickle of CIFAR. From the file only NumPy's own construction of arrays is run.

    Raises:
        pickle.UnpicklingError: The file names anything else.
    """
    arrays: dict[bytes, Any] = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    return arrays


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no file of CIFAR does")
        return ALLOWED[module, name]
