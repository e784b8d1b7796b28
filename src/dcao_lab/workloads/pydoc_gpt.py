"""Python's own documentation, which every Python carries, with a small GPT that has fused attention."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Problem, WorkloadInfo, build_seeded, generator

BATCH_SIZE = 32
CONTEXT = 32
VOCABULARY = 128  # ASCII; the few other characters of the text are read as "?"
BLOCK = 4096  # characters; every tenth block is test data, so that both halves cover the whole text
TEST_WINDOWS = 256
INIT_STD = 0.02  # GPT-2's

INFO = WorkloadInfo(
    name="pydoc_gpt",
    title="Documentation GPT",
    summary=f"pydoc_data.topics by character, GPT of 2 layers, width 32, context {CONTEXT}, batch {BATCH_SIZE}",
    metric="perplexity",
    higher_is_better=False,
    num_steps=500,
    eval_every=50,
    step_cost=8.0,
)


class PydocGPT:
    """Prediction of the next character."""

    info = INFO

    def start(self, seed: int) -> Problem:
        """Fresh weights, and random windows of the training text."""
        train, test = text_split()
        model = build_seeded(GPT, seed)
        test_batch = test_windows(test)
        return Problem(
            model=model,
            batches=random_windows(train, generator(seed, purpose=1)),
            loss=lambda batch: next_character_loss(model, batch),
            evaluate=lambda: language_metrics(model, test_batch),
        )


WORKLOAD = PydocGPT()


@cache
def text_split() -> tuple[Tensor, Tensor]:
    """Training and test text as ASCII codes."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    codes = torch.tensor(list(text.encode("ascii", errors="replace")), dtype=torch.long)
    blocks = codes.split(BLOCK)
    train = [block for index, block in enumerate(blocks) if index % 10 != 9]
    test = [block for index, block in enumerate(blocks) if index % 10 == 9]
    return torch.cat(train), torch.cat(test)


def random_windows(text: Tensor, order: torch.Generator) -> Iterator[Batch]:
    """Batches without end of windows that start anywhere."""
    offsets = torch.arange(CONTEXT + 1)
    while True:
        starts = torch.randint(len(text) - CONTEXT, (BATCH_SIZE, 1), generator=order)
        windows = text[starts + offsets]
        yield windows[:, :-1], windows[:, 1:]


def test_windows(text: Tensor) -> Batch:
    """The same windows for every run, spread evenly over the test text."""
    starts = torch.linspace(0, len(text) - CONTEXT - 1, TEST_WINDOWS).long().unsqueeze(1)
    windows = text[starts + torch.arange(CONTEXT + 1)]
    return windows[:, :-1], windows[:, 1:]


def next_character_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy in nats a character."""
    inputs, targets = batch
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def language_metrics(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Cross-entropy and perplexity a character; the perplexity of a loss beyond 700 is infinite."""
    loss = next_character_loss(model, batch).item()
    return {"test_loss": loss, "perplexity": math.exp(loss) if loss < 700.0 else math.inf}


@dataclass(frozen=True)
class GPTShape:
    """Sizes of the network."""

    width: int = 32
    num_heads: int = 2
    num_layers: int = 2


class GPT(nn.Module):
    """Pre-norm decoder with learned positions: 34 688 parameters at the default shape."""

    def __init__(self, shape: GPTShape | None = None) -> None:
        super().__init__()
        shape = shape or GPTShape()
        self.tokens = nn.Embedding(VOCABULARY, shape.width)
        self.positions = nn.Embedding(CONTEXT, shape.width)
        self.blocks = nn.Sequential(*(DecoderBlock(shape) for _ in range(shape.num_layers)))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, VOCABULARY, bias=False)
        self.apply(_init_weights)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (batch, length, vocabulary) of the next character."""
        hidden = self.tokens(codes) + self.positions.weight[: codes.shape[1]]
        return self.head(self.norm(self.blocks(hidden)))


class DecoderBlock(nn.Module):
    """Causal self-attention and a GELU network, each with its residual connection."""

    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.num_heads = shape.num_heads
        self.attention_norm = nn.LayerNorm(shape.width)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width)
        self.attention_output = nn.Linear(shape.width, shape.width)
        self.network_norm = nn.LayerNorm(shape.width)
        self.network = nn.Sequential(
            nn.Linear(shape.width, 4 * shape.width), nn.GELU(), nn.Linear(4 * shape.width, shape.width)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """The hidden states (batch, length, width) after this block."""
        hidden = hidden + self.attention_output(self._attend(self.attention_norm(hidden)))
        return hidden + self.network(self.network_norm(hidden))

    def _attend(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        heads = self.query_key_value(hidden).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).reshape(batch, length, width)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
