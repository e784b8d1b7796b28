"""The workloads (a model with its data and loss) that runs can use, by name."""

from dcao_lab.errors import look_up
from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, Workload, WorkloadInfo
from dcao_lab.workloads.embedded import (
    digits_cnn,
    digits_eos,
    digits_mlp,
    digits_resnet,
    digits_vit,
    mnist1d_conv,
    mnist1d_mlp,
    pydoc_gpt,
    pydoc_lstm,
)
from dcao_lab.workloads.full_size import (
    cifar,
    cifar10_efficientnet_ft,
    cifar10_resnet20,
    imagenet,
    mnist,
    wikitext2_gpt2,
    wikitext2_small,
    word_lstm,
    word_transformer,
)
from dcao_lab.workloads.unseen import (
    autoencoder,
    bag_of_words,
    breast_cancer,
    cnn_last_layer,
    cnn_new_classes,
    contrastive,
    deep_mlp,
    diabetes,
    diffusion,
    factorisation,
    gpt_licences,
    gpt_little_text,
    gpt_lora,
    gpt_much_text,
    gru,
    linear_probe,
    mixer,
    modular_addition,
    poisson,
    reversal,
    siren,
    vae,
    vit_large_batch,
    wrong_labels,
)

__all__ = [
    "UNSEEN",
    "WORKLOADS",
    "Batch",
    "Problem",
    "SplitName",
    "StartRequest",
    "Workload",
    "WorkloadInfo",
    "get_workload",
]

_UNSEEN_MODULES = (
    *(linear_probe, gpt_licences, vae, siren, factorisation, diffusion, deep_mlp, mixer, vit_large_batch, wrong_labels),
    *(reversal, modular_addition, autoencoder, gru, gpt_lora, cnn_new_classes, cnn_last_layer, breast_cancer, diabetes),
    *(bag_of_words, poisson, contrastive, gpt_little_text, gpt_much_text),
)
MODULES = (
    *(digits_mlp, digits_cnn, digits_resnet, digits_vit, mnist1d_mlp, mnist1d_conv, pydoc_gpt, pydoc_lstm, digits_eos),
    *_UNSEEN_MODULES,
    *(mnist, word_lstm, word_transformer, wikitext2_small, wikitext2_gpt2),
    *(cifar, cifar10_resnet20, cifar10_efficientnet_ft, imagenet),
)
ALL: tuple[Workload, ...] = tuple(workload for module in MODULES for workload in module.WORKLOADS)
WORKLOADS: dict[str, Workload] = {workload.info.name: workload for workload in ALL}
UNSEEN: tuple[str, ...] = tuple(workload.info.name for module in _UNSEEN_MODULES for workload in module.WORKLOADS)


def get_workload(name: str) -> Workload:
    """The workload called ``name``, such as ``digits_mlp``.

    Raises:
        LabError: There is none of this name; the message lists those there are.

    Example:
        >>> get_workload("digits_mlp").info.metric
        'accuracy'
    """
    return look_up(WORKLOADS, name, "workload")
