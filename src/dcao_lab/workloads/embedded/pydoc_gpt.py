"""Python's documentation with a small GPT that has fused attention (GPT-2's pre-norm decoder, Radford et al. 2019)."""

from torch import Tensor, nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.embedded.pydoc import BATCH_SIZE, CONTEXT, VOCABULARY, PydocWorkload
from dcao_lab.workloads.networks.transformer import TransformerBlock, TransformerShape, init_weights

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


class GPT(nn.Module):
    """Pre-norm Transformer decoder with learned positions: 34 688 parameters."""

    def __init__(self) -> None:
        super().__init__()
        shape = TransformerShape(is_causal=True)
        self.tokens = nn.Embedding(VOCABULARY, shape.width)
        self.positions = nn.Embedding(CONTEXT, shape.width)
        self.blocks = nn.Sequential(*(TransformerBlock(shape) for _ in range(shape.num_layers)))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, VOCABULARY, bias=False)
        self.apply(init_weights)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (batch, length, vocabulary) of the next character."""
        hidden = self.tokens(codes) + self.positions.weight[: codes.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(hidden)))
        return logits


WORKLOADS = (PydocWorkload(INFO, GPT),)
