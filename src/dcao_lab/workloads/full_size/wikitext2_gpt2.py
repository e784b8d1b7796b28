"""WikiText-2 with GPT-2 small (Radford et al. 2019) from random weights, as implemented in ``transformers``.

Shuffled blocks of 1024 tokens in batches of 8 are the recipe of ``transformers``' run_clm example. The example
fine-tunes for 3 epochs; 20 epochs from random weights are our choice. The text is WikiText-2 with all its words,
because byte-level BPE needs no ``<unk>``.

The loss is in nats a token. The perplexity is per word, ``exp(total loss / words)`` with the ends of lines as words, as
Radford et al. report it, so it is comparable with that of the word-level models; per token it would be ``exp(loss)``.
No perplexity is published for random weights, so the target is our choice.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import CPU, Problem, StartRequest, WorkloadInfo, shuffled_batches
from dcao_lab.workloads.data.bpe import TokenSplit, read_tokens
from dcao_lab.workloads.data.corpora import WIKITEXT2_RAW
from dcao_lab.workloads.data.folders import extra
from dcao_lab.workloads.language_stream import Step, mean_loss, perplexity, stateless, token_loss

CONTEXT = 1024
BATCH_SIZE = 8
STEPS_PER_EPOCH = 290  # about 2.4 million tokens

INFO = WorkloadInfo(
    name="wikitext2_gpt2",
    title="WikiText-2 GPT-2",
    summary=f"WikiText-2 in GPT-2's tokens, GPT-2 small (124.4 M parameters), context {CONTEXT}, batch {BATCH_SIZE}",
    metric="perplexity",
    higher_is_better=False,
    target=350.0,
    batch_size=BATCH_SIZE,
    num_steps=20 * STEPS_PER_EPOCH,
    eval_every=STEPS_PER_EPOCH,
    step_cost=120_000.0,
    needs=f"{WIKITEXT2_RAW.needs}; and GPT-2's vocab.json and merges.txt, or the hub's openai-community/gpt2",
)


class GPT2(nn.Module):
    """``transformers``' GPT-2 as a module from tokens to logits; by default GPT-2 small.

    Args:
        num_tokens: Size of the vocabulary; GPT-2's own has 50 257 tokens.
        config: Entries of ``transformers.GPT2Config`` that are not its defaults.
    """

    def __init__(self, num_tokens: int, **config: Any) -> None:
        super().__init__()
        transformers = extra("transformers", "GPT-2")
        # The default token for the end of a text is a number that a small vocabulary does not have.
        ends = {"bos_token_id": num_tokens - 1, "eos_token_id": num_tokens - 1}
        self.gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=num_tokens, **ends, **config))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, length, vocabulary) of the next tokens."""
        logits: Tensor = self.gpt2(input_ids=tokens, use_cache=False).logits
        return logits


@dataclass(frozen=True, kw_only=True)
class TokenWorkload:
    """Prediction of the next token by GPT-2.

    Attributes:
        info: Facts about the workload.
        context: Number of tokens that the network sees at a time.
        config: Entries of ``transformers.GPT2Config`` that are not its defaults.
    """

    info: WorkloadInfo
    context: int = CONTEXT
    config: dict[str, Any] = field(default_factory=dict)

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights and the order of blocks of the training text from the seed of the request."""
        request.refuse_label_noise(self.info)
        corpus = read_tokens(WIKITEXT2_RAW, request.data_dir)
        model = request.built(lambda: GPT2(corpus.num_tokens, **self.config))
        inputs, targets = blocks(corpus.train.to(request.device), self.context)
        batch_size = request.batch_size_within(self.info, len(inputs))
        return Problem(
            model=model,
            batches=shuffled_batches(inputs, targets, batch_size, request.generator(purpose=1)),
            loss=lambda batch: token_loss(model, batch),
            evaluate=lambda split: token_metrics(
                stateless(model), corpus.evaluated[split], corpus.end_of_text, self.context, request.device
            ),
            criterion=nn.CrossEntropyLoss(),
            batches_per_epoch=len(inputs) // batch_size,
        )


def blocks(stream: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The stream cut into blocks, as inputs and targets (number, length), without the incomplete last block."""
    number = (len(stream) - 1) // length
    return stream[: number * length].view(number, length), stream[1 : number * length + 1].view(number, length)


def token_metrics(
    step: Step, split: TokenSplit, before: int, length: int, device: torch.device = CPU
) -> dict[str, float]:
    """``loss``, the cross-entropy in nats a token, and ``perplexity`` a word."""
    loss = mean_loss(step, split.tokens.to(device), before, length, columns=4)
    return {"loss": loss, "perplexity": perplexity(loss * len(split.tokens) / split.num_words)}


WORKLOADS = (TokenWorkload(info=INFO),)
