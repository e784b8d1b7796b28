"""Reading of images in every form they may be in, and what is said when they are not there or broken."""

import gzip
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch

import helpers.image_files as image_files
from dcao_lab.errors import LabError
from dcao_lab.workloads import StartRequest
from dcao_lab.workloads.base import generator
from dcao_lab.workloads.data import folders as datafiles
from dcao_lab.workloads.data.image_files import load_arrays
from dcao_lab.workloads.data.images import held_out, load_images
from dcao_lab.workloads.full_size import cifar, imagenet, mnist

MNIST, CIFAR10, CIFAR100 = mnist.SOURCE, cifar.CIFAR10, cifar.CIFAR100


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def some_images(source, numbers=(23, 7)):
    """Training and test images, by label, the order in which an image folder has them."""
    splits = [image_files.random_images(number, source.shape, source.num_classes, number) for number in numbers]
    orders = [np.argsort(labels, kind="stable") for _, labels in splits]
    return [(pixels[order], labels[order]) for (pixels, labels), order in zip(splits, orders, strict=True)]


def write(form, source, folder, splits):
    if form == "parquet":
        columns = (source.image, source.label)
        image_files.write_parquet(folder / "plain_text", splits, columns, source.num_classes)
    elif form == "image folder":
        image_files.write_image_folder(folder, splits)
    elif form == "image folder with val":
        image_files.write_image_folder(folder, splits, test_name="val")
    elif source is MNIST:
        place = folder / "MNIST" / "raw" if form == "torchvision" else folder
        image_files.write_idx(place, splits, compressed=form == "gz")
    else:
        writer = image_files.write_cifar10 if source is CIFAR10 else image_files.write_cifar100
        writer(folder, splits, archive=form == "tar.gz")


FORMS = {
    MNIST: ("idx", "gz", "torchvision", "parquet", "image folder"),
    CIFAR10: ("batches", "tar.gz", "parquet", "image folder", "image folder with val"),
    CIFAR100: ("batches", "tar.gz", "parquet", "image folder"),
}
EVERY_FORM = [pytest.param(source, form, id=f"{source.title}-{form}") for source in FORMS for form in FORMS[source]]


@pytest.mark.parametrize(("source", "form"), EVERY_FORM)
def test_every_form_gives_the_same_pixels_and_labels(source, form, tmp_path):
    splits = some_images(source)
    write(form, source, tmp_path, splits)
    loaded = load_images(source, tmp_path)
    for name, (pixels, labels) in zip(("train", "test"), splits, strict=True):
        images, classes = loaded[name]
        classes_of_folder = np.unique(np.concatenate([labels for _, labels in splits]))
        expected = np.searchsorted(classes_of_folder, labels) if "folder" in form else labels
        assert images.dtype == torch.uint8
        assert torch.equal(images, torch.from_numpy(pixels))
        assert classes.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_imagenet_is_the_same_from_parquet_files_and_from_an_image_folder(kind, tmp_path):
    random = [image_files.random_images(number, (3, 230, 270), 3, number) for number in (20, 3)]
    splits = [(pixels[np.argsort(labels)], np.sort(labels)) for pixels, labels in random]
    image_files.write_parquet(tmp_path / "a", splits, ("image", "label"), 3, test_name="validation", kind=kind)
    image_files.write_image_folder(tmp_path / "b", splits, test_name="val", kind=kind)
    batches = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        request = StartRequest(seed=0, data_dir=folder, batch_size=18)
        workload = imagenet.RESNET50
        rows = workload._splits(request)
        batches.append([*next(workload._training_batches(rows["train"], 18, request))])
        batches[-1] += next(workload._evaluation_batches(rows, "test", request))
    assert all(torch.equal(one, two) for one, two in zip(*batches, strict=True))
    assert batches[0][2].shape == (3, 3, 224, 224)
    assert batches[0][3].tolist() == [0, 1, 2]


def test_a_folder_of_many_data_sets_is_searched_by_their_names(tmp_path):
    splits = some_images(CIFAR10)
    image_files.write_cifar10(tmp_path / "cifar10", splits, archive=True)
    image_files.write_idx(tmp_path / "mnist", some_images(MNIST), compressed=True)
    assert torch.equal(load_images(CIFAR10, tmp_path)["train"][0], torch.from_numpy(splits[0][0]))
    assert load_images(MNIST, tmp_path)["train"][0].shape == (23, 1, 28, 28)


def test_without_a_data_dir_the_hub_is_asked_by_the_data_set_s_name(monkeypatch, tmp_path):
    """The hub's answer is stood in for by Parquet files of its schema."""
    datasets = pytest.importorskip("datasets")
    splits = some_images(CIFAR100)
    image_files.write_parquet(tmp_path, splits, ("img", "fine_label"), 100)
    asked = []

    def from_files(hub):
        asked.append(hub)
        files = {name: str(next(tmp_path.glob(f"{name}*"))) for name in ("train", "test")}
        return load_dataset("parquet", data_files=files)

    load_dataset = datasets.load_dataset
    monkeypatch.setattr(datafiles, "_is_reachable", lambda url: True)
    monkeypatch.setattr(datasets, "load_dataset", from_files)
    load_images.cache_clear()
    images, labels = load_images(CIFAR100, None)["test"]
    load_images.cache_clear()
    assert asked == ["uoft-cs/cifar100"]
    assert torch.equal(images, torch.from_numpy(splits[1][0]))
    assert labels.tolist() == splits[1][1].tolist()


@pytest.mark.parametrize(
    ("source", "hub"),
    [
        (MNIST, "ylecun/mnist"),
        (CIFAR10, "uoft-cs/cifar10"),
        (CIFAR100, "uoft-cs/cifar100"),
        (imagenet.SOURCE, "ILSVRC/imagenet-1k"),
    ],
)
def test_a_hub_out_of_reach_is_one_sentence_that_says_how_to_get_the_data(source, hub, monkeypatch):
    monkeypatch.setattr(datafiles, "_is_reachable", lambda url: False)
    expected = (
        rf"^{source.title} could not be loaded from the Hugging Face hub as {hub} "
        r"\(the hub cannot be reached, and its cache lacks it\); connect to the network, "
        r"or give --data-dir a folder with .*Parquet files .* or an image folder"
    )
    with pytest.raises(LabError, match=expected):
        load_images(source, None)


def test_what_the_hub_gave_before_is_used_without_it(monkeypatch, tmp_path):
    """Downloaded data is in the cache under the hub's name; here files of its schema are put there."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datafiles, "_is_reachable", lambda url: False)
    splits = some_images(MNIST)
    image_files.write_parquet(tmp_path, splits, ("image", "label"), 10)
    files = {name: str(next(tmp_path.glob(f"{name}*"))) for name in ("train", "test")}
    datasets.load_dataset("parquet", name="mnist", data_files=files)
    (built,) = (tmp_path / "cache" / "parquet").glob("mnist-*/0.0.0/*/")
    cached = tmp_path / "cache" / "ylecun___mnist" / "mnist" / "0.0.0" / built.name
    shutil.copytree(built, cached)
    for file in cached.glob("parquet-*"):
        file.rename(cached / file.name.replace("parquet", "mnist"))
    images, labels = load_images.__wrapped__(MNIST, None)["train"]
    assert torch.equal(images, torch.from_numpy(splits[0][0]))
    assert labels.tolist() == splits[0][1].tolist()


def test_an_address_that_nobody_answers_is_out_of_reach_at_once():
    assert not datafiles._is_reachable("http://127.0.0.1:9")  # the discard port, which is closed


def test_a_data_dir_that_is_no_folder_is_refused(tmp_path):
    expected = f"CIFAR-10 was looked for in {tmp_path}/nowhere, which is not a folder; give --data-dir its folder"
    with pytest.raises(LabError, match=expected):
        load_images(CIFAR10, tmp_path / "nowhere")


@pytest.mark.parametrize(("present", "words"), [((), "nothing"), (("notes.txt", "train"), "notes.txt, train")])
def test_a_folder_without_the_data_is_told_what_belongs_there(present, words, tmp_path):
    for name in present:
        (tmp_path / name).mkdir()
    expected = (
        f"MNIST is not in {tmp_path}, which has {words}; put there the idx files .*, Parquet files .* "
        r"or an image folder .*, or leave --data-dir out to load ylecun/mnist from the Hugging Face hub"
    )
    with pytest.raises(LabError, match=expected):
        load_images(MNIST, tmp_path)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def overwrite(path):
    path.write_bytes(b"<html>404 Not Found</html>")


@pytest.mark.parametrize("damage", [truncate, overwrite])
@pytest.mark.parametrize(
    ("source", "form", "broken"),
    [
        (MNIST, "idx", "train-images-idx3-ubyte"),
        (MNIST, "gz", "t10k-labels-idx1-ubyte.gz"),
        (CIFAR10, "batches", "cifar-10-batches-py/data_batch_3"),
        (CIFAR10, "tar.gz", "cifar-10-python.tar.gz"),
        (CIFAR100, "parquet", "plain_text/train-00000-of-00001.parquet"),
        (CIFAR10, "image folder", "train/n00000000/00000.png"),
    ],
)
def test_a_broken_file_is_one_sentence(source, form, broken, damage, tmp_path):
    write(form, source, tmp_path, some_images(source))
    damage(tmp_path / broken)
    with pytest.raises(
        LabError, match=rf"^{source.title} in {tmp_path} cannot be read \(.+\); replace it by an intact copy$"
    ):
        load_images(source, tmp_path)


def test_a_broken_image_of_imagenet_is_named_when_its_turn_comes(tmp_path):
    splits = [image_files.random_images(number, (3, 30, 30), 2, number) for number in (10, 2)]
    image_files.write_image_folder(tmp_path, splits, test_name="val")
    overwrite(next((tmp_path / "val").rglob("*.png")))
    request = StartRequest(seed=0, data_dir=tmp_path)
    rows = imagenet.RESNET50._splits(request)
    with pytest.raises(LabError, match=rf"^ImageNet-1k in {tmp_path} cannot be read \(.*\.png is broken: .*\)"):
        next(imagenet.RESNET50._evaluation_batches(rows, "test", request))


def test_an_idx_file_that_is_not_there_is_named(tmp_path):
    write("gz", MNIST, tmp_path, some_images(MNIST))
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    expected = f"MNIST in {tmp_path} lacks train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz; put it there"
    with pytest.raises(LabError, match=expected):
        load_images(MNIST, tmp_path)


def test_a_missing_batch_of_cifar_is_named(tmp_path):
    write("batches", CIFAR10, tmp_path, some_images(CIFAR10))
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(LabError, match=r"No such file or directory: .*data_batch_4"):
        load_images(CIFAR10, tmp_path)


def test_labels_that_are_no_classes_are_refused(tmp_path):
    splits = some_images(MNIST)
    splits[1][1][:] = 10
    write("idx", MNIST, tmp_path, splits)
    with pytest.raises(LabError, match=r"MNIST has labels 0 to 9, got 10 to 10 in .* \(test\)"):
        load_images(MNIST, tmp_path)


def test_images_of_another_size_are_refused(tmp_path):
    splits = [image_files.random_images(number, (1, 20, 20), 10, 0) for number in (20, 5)]
    write("idx", MNIST, tmp_path, splits)
    with pytest.raises(LabError, match=r"MNIST has images of shape \(1, 28, 28\), got \(1, 20, 20\) in .*"):
        load_images(MNIST, tmp_path)


def test_as_many_labels_as_images_are_demanded(tmp_path):
    write("idx", MNIST, tmp_path, some_images(MNIST))
    image_files.write_idx(tmp_path / "fewer", some_images(MNIST, (9, 9)), compressed=False)
    (tmp_path / "fewer" / "train-labels-idx1-ubyte").rename(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(LabError, match=r"MNIST in .* has 23 images and 9 labels; load it again"):
        load_images(MNIST, tmp_path)


def test_a_column_that_is_not_there_is_named(tmp_path):
    image_files.write_parquet(tmp_path, some_images(CIFAR100), ("img", "coarse_label"), 100)
    with pytest.raises(LabError, match=r"CIFAR-100 needs a column 'fine_label' in every split, got img, coarse_label"):
        load_images(CIFAR100, tmp_path)


class Harmful:
    def __reduce__(self):
        return eval, ("a pickle may call anything",)


def test_a_pickle_that_names_anything_but_arrays_is_not_run(capsys):
    with pytest.raises(pickle.UnpicklingError, match=r"it names builtins.eval, which no file of CIFAR does"):
        load_arrays(pickle.dumps({b"data": Harmful()}))
    assert capsys.readouterr().out == ""


def test_arrays_that_python_3_pickled_are_read_too():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for protocol in (2, 4):
        loaded = load_arrays(pickle.dumps({b"data": pixels}, protocol=protocol))
        assert np.array_equal(loaded[b"data"], pixels)


def test_a_package_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    expected = r"^ResNet needs transformers, which is not installed; pip install '.\[data\]' in a clone$"
    with pytest.raises(LabError, match=expected):
        cifar.WORKLOADS[0].build()


def test_of_50000_images_5000_validate_with_the_same_share_of_each_class():
    labels = torch.randint(10, (50_000,), generator=generator(5, purpose=0))
    training, validation = held_out(labels, 5000)
    assert len(training) == 45_000
    assert torch.equal(torch.cat([training, validation]).sort().values, torch.arange(50_000))
    assert (torch.bincount(labels[validation]) - torch.bincount(labels) / 10).abs().max() <= 1.0
    assert torch.equal(held_out(labels, 5000)[1], validation)


def test_what_validates_is_not_simply_the_first_of_each_class():
    _, validation = held_out(torch.zeros(1000, dtype=torch.long), 100)
    assert abs(validation.float().mean().item() - 499.5) < 4 * 288.7 / 10  # the mean of 100 uniform draws


def test_a_tenth_of_few_images_validates():
    training, validation = held_out(torch.arange(39) % 10, 5000)
    assert (len(training), len(validation)) == (36, 3)


def test_a_gzip_file_is_not_told_by_its_name_alone(tmp_path):
    """Packed files are often unpacked in place, and keep both; the unpacked one is read."""
    splits = some_images(MNIST)
    write("idx", MNIST, tmp_path, splits)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    assert torch.equal(load_images(MNIST, tmp_path)["train"][0], torch.from_numpy(splits[0][0]))
