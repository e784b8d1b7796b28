"""Python's documentation with a small GPT that has fused attention (GPT-2's pre-norm decoder, Radford et al. 2019)."""

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.embedded.pydoc import BATCH_SIZE, CONTEXT, PydocWorkload
from dcao_lab.workloads.networks.language_transformer import TransformerModel
from dcao_lab.workloads.networks.transformer import TransformerShape
from dcao_lab.workloads.text_windows import VOCABULARY

INFO = WorkloadInfo(
    name="pydoc_gpt",
    title="Documentation GPT",
    summary=f"pydoc_data.topics by character, GPT of 2 layers, width 32, context {CONTEXT}, batch {BATCH_SIZE}",
    metric="perplexity",
    higher_is_better=False,
    target=11.5,
    batch_size=BATCH_SIZE,
    num_steps=500,
    eval_every=50,
    step_cost=8.0,
)


def build() -> nn.Module:
    """Pre-norm Transformer decoder with learned positions: 34 688 parameters."""
    return TransformerModel(VOCABULARY, TransformerShape(is_causal=True), CONTEXT, has_bias=False)


WORKLOADS = (PydocWorkload(INFO, build),)
