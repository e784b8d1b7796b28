"""Writes images as the data sets' publishers do: idx, Python 2 pickles, the hub's Parquet files, image folders."""

import gzip
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image


def random_images(number, shape, num_classes, seed):
    """Bytes (number, channels, height, width) and labels; every image differs."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, size=(number, *shape), dtype=np.uint8)
    return pixels, random.permutation(np.arange(number) % num_classes)


def write_idx(folder, splits, *, compressed):
    """The four files of yann.lecun.com/exdb/mnist: big-endian, magic 2051 for images and 2049 for labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (pixels, labels) in zip(("train", "t10k"), splits, strict=True):
        number, _, height, width = pixels.shape
        images = struct.pack(">IIII", 2051, number, height, width) + pixels.tobytes()
        _write(folder / f"{name}-images-idx3-ubyte", images, compressed)
        content = struct.pack(">II", 2049, number) + labels.astype(np.uint8).tobytes()
        _write(folder / f"{name}-labels-idx1-ubyte", content, compressed)


def _write(path, content, compressed):
    path = path.with_name(f"{path.name}.gz") if compressed else path
    path.write_bytes(gzip.compress(content) if compressed else content)


def write_cifar10(folder, splits, *, archive):
    """Five training batches and a test batch, in a folder or in cifar-10-python.tar.gz."""
    folder.mkdir(parents=True, exist_ok=True)
    (pixels, labels), test = splits
    files = {"test_batch": python2_batch(*test, "labels", "testing batch 1 of 1")}
    parts = zip(np.array_split(pixels, 5), np.array_split(labels, 5), strict=True)
    for number, part in enumerate(parts, start=1):
        files[f"data_batch_{number}"] = python2_batch(*part, "labels", f"training batch {number} of 5")
    _write_files(folder, "cifar-10-batches-py", files, "cifar-10-python.tar.gz" if archive else None)


def write_cifar100(folder, splits, *, archive):
    """The files train and test, in a folder or in cifar-100-python.tar.gz."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("train", "test")
    files = {name: python2_batch(*split, "fine_labels", name) for name, split in zip(names, splits, strict=True)}
    _write_files(folder, "cifar-100-python", files, "cifar-100-python.tar.gz" if archive else None)


def _write_files(folder, inner, files, archive_name):
    if archive_name is None:
        (folder / inner).mkdir()
        for name, content in files.items():
            (folder / inner / name).write_bytes(content)
        return
    with tarfile.open(folder / archive_name, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def python2_batch(pixels, labels, label_key, title):
    """A batch as Python 2's cPickle wrote it, with byte strings and NumPy 1's names, opcode by opcode."""
    rows = pixels.reshape(len(pixels), -1)
    numbers = b"".join(b"K" + bytes([label]) for label in labels.tolist())
    shape = b"M" + struct.pack("<H", rows.shape[0]) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + _text("u1") + b"K\x00K\x01\x87R(K\x03" + _text("|") + b"NNN" + 2 * b"J\xff\xff\xff\xff"
    data = b"T" + struct.pack("<i", rows.nbytes) + rows.tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _text("b") + b"\x87R"
    array = empty + b"(K\x01" + shape + dtype + b"K\x00tb\x89" + data + b"tb"
    items = {"batch_label": _text(title), label_key: b"](" + numbers + b"e", "data": array}
    return b"\x80\x02}(" + b"".join(_text(key) + value for key, value in items.items()) + b"u."


def _text(text):
    return b"U" + bytes([len(text)]) + text.encode("ascii")


def encoded(pixels, kind="PNG"):
    """An image file's bytes."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_parquet(folder, splits, columns, num_classes, *, test_name="test", kind="PNG"):
    """The hub's files: images as a struct of bytes and path, and the features in the schema's metadata."""
    image, label = columns
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"class {number:04d}" for number in range(num_classes)]
    features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    struct_type = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([(image, struct_type), (label, pyarrow.int64())], metadata=metadata)
    for name, (pixels, labels) in zip(("train", test_name), splits, strict=True):
        rows = [{"bytes": encoded(one, kind), "path": f"{number}.png"} for number, one in enumerate(pixels)]
        table = pyarrow.table({image: rows, label: labels.tolist()}, schema=schema)
        pyarrow.parquet.write_table(table, folder / f"{name}-00000-of-00001.parquet")


def write_image_folder(folder, splits, *, test_name="test", kind="PNG"):
    """``train/CLASS/NUMBER.png`` and so on; classes in alphabetical order are those of the labels."""
    for name, (pixels, labels) in zip(("train", test_name), splits, strict=True):
        for number, (one, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
            place = Path(folder) / name / f"n{label:08d}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:05d}.{kind.lower()}").write_bytes(encoded(one, kind))
