"""The full-size vision workloads, on small files in the real formats."""

import dataclasses
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import dcao
import helpers.image_files as image_files
from dcao_lab.baselines import BASELINES, BuildRequest
from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.runs.runner import RunPlace, run
from dcao_lab.runs.store import RunStore
from dcao_lab.runs.training import TrainingPlan, train
from dcao_lab.workloads import WORKLOADS, StartRequest
from dcao_lab.workloads.data import images as vision_images
from dcao_lab.workloads.data.images import VisionSource, load_images
from dcao_lab.workloads.full_size import cifar, imagenet
from dcao_lab.workloads.networks.vision import build_resnet, build_vit

SMALL = ("mnist_mlp", "mnist_cnn", "cifar10_resnet20", *(workload.info.name for workload in cifar.WORKLOADS))
NUM_IMAGES = (20, 4)  # to train (two of which validate) and to test with


def start(name, data_dir, **request):
    return WORKLOADS[name].start(StartRequest(seed=0, data_dir=data_dir, **request))


def num_parameters(model):
    return sum(param.numel() for param in model.parameters())


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """One folder with all the data sets, as a study over several of them is given."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("mnist", "cifar10", "cifar100", "imagenet"):
        (folder / name).mkdir()
    image_files.write_idx(folder / "mnist", splits((1, 28, 28), 10), compressed=True)
    image_files.write_cifar10(folder / "cifar10", splits((3, 32, 32), 10), archive=True)
    image_files.write_cifar100(folder / "cifar100", splits((3, 32, 32), 100), archive=True)
    image_files.write_image_folder(folder / "imagenet", imagenet_splits(), test_name="val", kind="JPEG")
    return folder


def splits(shape, num_classes):
    return [image_files.random_images(number, shape, num_classes, seed) for seed, number in enumerate(NUM_IMAGES)]


def imagenet_splits():
    return [image_files.random_images(number, (3, 260, 300), 3, seed) for seed, number in enumerate((20, 4))]


@pytest.mark.parametrize("name", SMALL)
def test_a_few_steps_train_it_on_the_authors_own_files(name, data_dir):
    check_training(name, data_dir, num_classes=100 if "cifar100" in name else 10)


@pytest.mark.parametrize("name", ["imagenet_resnet50", pytest.param("imagenet_vit", marks=pytest.mark.slow)])
def test_a_few_steps_train_it_on_an_image_folder(name, data_dir):
    check_training(name, data_dir, num_classes=1000)


def test_a_few_steps_train_a_shallow_vit_on_imagenet(data_dir, monkeypatch):
    shallow = dataclasses.replace(imagenet.VIT, build=lambda: build_vit(1000, num_hidden_layers=2, hidden_size=192))
    monkeypatch.setitem(WORKLOADS, "imagenet_vit", shallow)
    check_training("imagenet_vit", data_dir, num_classes=1000)


def check_training(name, data_dir, num_classes):
    problem = start(name, data_dir, batch_size=2)
    weights = [param.detach().clone() for param in problem.model.parameters()]
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=1e-4)
    _, after = train(problem, optimizer, TrainingPlan(num_steps=2, eval_every=2))
    # Fresh weights know nothing: the loss is still near that of a guess, ln(classes). Not so the evaluated one, for
    # which a BatchNorm has only the running statistics of two batches.
    assert after.train_loss == pytest.approx(math.log(num_classes), abs=1.0)
    assert all(math.isfinite(value) for value in after.metrics.values())
    assert set(after.metrics) == {
        f"{split}_{metric}" for split in ("train", "validation", "test") for metric in ("loss", "accuracy")
    }
    changed = [not torch.equal(old, new) for old, new in zip(weights, problem.model.parameters(), strict=True)]
    assert sum(changed) / len(changed) > 0.9  # all but a bias that a normalisation after it makes useless


def test_a_run_from_a_data_dir_learns_real_digits_in_mnist_s_format(tmp_path):
    digits = load_digits()
    pixels = np.kron(digits.images, np.ones((3, 3))) * 255 / 16  # 24 by 24, in the middle of 28 by 28 as MNIST has them
    pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)[:, None]
    splits = [(pixels[part], digits.target[part]) for part in (slice(0, 1500), slice(1500, None))]
    image_files.write_idx(tmp_path / "mnist", splits, compressed=True)
    config = RunConfig(workload="mnist_mlp", optimizer="adamw", lr=1e-3, seed=0, num_steps=100, eval_every=100)
    result = run(config, RunStore(tmp_path / "runs"), RunPlace(data_dir=tmp_path))
    assert result.final["test_accuracy"] > 0.85  # these last digits are by other writers; seen: 0.91


def test_dcao_measures_and_trains_a_full_size_network(data_dir):
    problem = start("cifar10_resnet18", data_dir, batch_size=4)
    optimizer = BASELINES["dcao:sgd"].build(problem, BuildRequest(lr=1e-3, recorder=dcao.MemoryRecorder()))
    _, after = train(problem, optimizer, TrainingPlan(num_steps=1, eval_every=1))
    assert math.isfinite(after.train_loss)
    assert after.gradient_evaluations > 1  # it probed


def test_curvature_of_the_vit_can_be_measured_by_differentiating_twice(data_dir):
    problem = start("cifar10_vit", data_dir, batch_size=2)
    batch = next(problem.batches)
    assert dcao.sharpness(lambda: problem.loss(batch), problem.model.parameters()) > 0


# From outside: LeCun et al. 1998 and Frankle and Carbin 2019 (266 K), PyTorch's example, kuangliu/pytorch-cifar,
# torchvision's and timm's documentation of their models, ViT-CIFAR's README (6.3 M).
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("mnist_mlp", 266_610),
        ("mnist_cnn", 1_199_882),
        ("cifar10_resnet18", 11_173_962),
        ("cifar10_resnet34", 21_282_122),
        ("cifar10_resnet50", 23_520_842),
        ("cifar100_resnet18", 11_220_132),
        ("imagenet_resnet50", 25_557_032),
        ("imagenet_vit", 86_567_656),
    ],
)
def test_a_network_has_as_many_parameters_as_the_literature_says(name, number):
    with torch.device("meta"):
        assert num_parameters(WORKLOADS[name].build()) == number


def test_the_vit_for_cifar_has_6_3_million_parameters():
    assert num_parameters(WORKLOADS["cifar10_vit"].build()) == pytest.approx(6.3e6, abs=0.05e6)


def test_the_stem_for_small_images_keeps_their_size_and_starts_like_the_one_it_replaces():
    stem = WORKLOADS["cifar10_resnet18"].build().network.resnet.embedder
    assert stem(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 32, 32)
    weight = stem.embedder.convolution.weight
    # He et al. 2015: variance 2 / (9 * 64); 1728 draws have a relative error of sqrt(2 / 1728) = 3.4 %, four of which
    assert weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.14)


def test_a_smaller_network_can_be_asked_for():
    assert num_parameters(build_resnet(50, 10, depths=[1, 1, 1, 1])) < 10_000_000


@pytest.mark.parametrize("name", ["mnist_cnn", "cifar100_resnet18", "imagenet_resnet50"])
def test_the_same_seed_gives_the_same_batches_and_another_gives_others(name, data_dir, monkeypatch):
    monkeypatch.setitem(WORKLOADS, name, dataclasses.replace(WORKLOADS[name], build=torch.nn.Flatten))
    runs = [
        WORKLOADS[name].start(StartRequest(seed=seed, data_dir=data_dir, batch_size=4)).batches for seed in (3, 3, 4)
    ]
    one, two, other = ([tensor for batch in itertools.islice(run, 6) for tensor in batch] for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["mnist_mlp", "imagenet_resnet50"])
def test_evaluation_in_small_batches_gives_the_metrics_of_one_large_batch(name, data_dir, monkeypatch):
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(1000))
    monkeypatch.setitem(WORKLOADS, name, dataclasses.replace(WORKLOADS[name], build=lambda: linear))
    problem = start(name, data_dir, batch_size=2)
    with torch.no_grad():
        whole = problem.evaluate("test")
        monkeypatch.setattr(f"{type(WORKLOADS[name]).__module__}.EVALUATION_BATCH", 3)
        parts = problem.evaluate("test")
    assert parts == pytest.approx(whole, rel=1e-5)  # float32 sums in another order


def test_of_the_training_data_no_more_is_evaluated_than_there_is_to_test_with(data_dir, monkeypatch):
    seen = []
    original = vision_images.normalised

    def counting(images, *rest):
        seen.append(len(images))
        return original(images, *rest)

    monkeypatch.setattr(vision_images, "normalised", counting)
    start("mnist_mlp", data_dir, batch_size=2).evaluate("train")
    assert seen == [NUM_IMAGES[1]]


def test_label_noise_draws_from_all_classes_of_the_data_set(data_dir, monkeypatch):
    monkeypatch.setitem(
        WORKLOADS, "cifar100_vit", dataclasses.replace(WORKLOADS["cifar100_vit"], build=torch.nn.Flatten)
    )
    problem = start("cifar100_vit", data_dir, batch_size=18, label_noise=1.0)
    _, labels = next(problem.batches)
    clean = load_images(cifar.CIFAR100, data_dir)["train"][1]
    assert clean.max() < 20
    assert labels.max() >= 50  # 18 draws of 100 classes: all below 50 once in 2 ** 18


def test_a_batch_of_more_images_than_there_are_is_refused(data_dir):
    with pytest.raises(LabError, match=r"batch_size must be between 1 and the 18 training examples, got 128"):
        start("cifar10_resnet18", data_dir)


def test_every_full_size_workload_says_what_data_it_needs():
    sources = {name: getattr(workload, "source", None) for name, workload in WORKLOADS.items()}
    needs = {name: WORKLOADS[name].info.needs for name, source in sources.items() if isinstance(source, VisionSource)}
    assert set(needs.values()) == {"MNIST", "CIFAR-10", "CIFAR-100", "ImageNet-1k"}
    assert len(needs) == 13
    assert WORKLOADS["cifar10_efficientnet_ft"].info.needs == "CIFAR-10, and ImageNet weights of EfficientNet-Lite0"


def test_importing_the_workloads_loads_no_heavy_package():
    code = (
        "import sys, dcao_lab.workloads; "
        "print(*sorted({'transformers', 'datasets', 'PIL'} & set(sys.modules)), sep=',', end='')"
    )
    source = str(Path(dcao.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": source}
    )
    assert done.stdout == ""
