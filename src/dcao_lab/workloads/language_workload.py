"""Word-level language modelling on PTB and WikiText-2, for the LSTMs and the Transformers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, WorkloadInfo
from dcao_lab.workloads.data.textfiles import TextSource
from dcao_lab.workloads.data.words import WordCorpus, read_words
from dcao_lab.workloads.language_stream import (
    Step,
    StreamBatch,
    mean_loss,
    perplexity,
    stateless,
    stream_batches,
    stream_loss,
    token_loss,
)


@dataclass(frozen=True, kw_only=True)
class WordWorkload:
    """Prediction of the next word by the network that ``build`` returns.

    A recurrent network maps words and a state to logits and a state, and its batches are (inputs, targets, carry). Any
    other network maps words to logits, and its batches are (inputs, targets).

    Attributes:
        info: Facts about the workload.
        source: The places where the text may be.
        build: Takes the size of the vocabulary and returns the network.
        length: Number of words through which a training step propagates back.
        is_recurrent: Whether the network has a state that batches hand on.
        num_evaluated: Number of words at the beginning of each split that an evaluation is of; None: the whole of
            held-out text, and as many words of the training text as the test text has.
    """

    info: WorkloadInfo
    source: TextSource
    build: Callable[[int], nn.Module]
    length: int
    is_recurrent: bool
    num_evaluated: int | None = None

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights and offsets from the seed, and the training text in parallel columns."""
        request.refuse_label_noise(self.info)
        corpus = read_words(self.source, request.data_dir)
        streams = evaluation_streams(corpus, request.device, self.num_evaluated)
        model = request.built(lambda: self.build(len(corpus.vocabulary)))
        stream = corpus.streams["train"].to(request.device)
        batch_size = request.batch_size_within(self.info, len(stream) // (self.length + 1))
        batches = stream_batches(stream, batch_size, self.length, request.generator(purpose=1))
        step = model if self.is_recurrent else stateless(model)
        return Problem(
            model=model,
            batches=cast("Iterator[Batch]", batches) if self.is_recurrent else without_carry(batches),
            loss=lambda batch: (
                stream_loss(model, cast("StreamBatch", batch)) if self.is_recurrent else token_loss(model, batch)
            ),
            evaluate=lambda split: word_metrics(step, streams[split], corpus.end_of_line, self.length),
            criterion=None if self.is_recurrent else nn.CrossEntropyLoss(),
            batches_per_epoch=len(stream) / (batch_size * self.length),
        )


def evaluation_streams(
    corpus: WordCorpus, device: torch.device, num_words: int | None = None
) -> dict[SplitName, Tensor]:
    """The text to evaluate: all held-out text, and the beginning of the training text, as long as the test text.

    With ``num_words`` it is no more than so many words at the beginning of each.
    """
    streams = {**corpus.streams, "train": corpus.streams["train"][: len(corpus.streams["test"])]}
    return {split: stream[:num_words].to(device) for split, stream in streams.items()}


def word_metrics(step: Step, stream: Tensor, before: int, length: int) -> dict[str, float]:
    """``loss``, the cross-entropy in nats a word, and ``perplexity`` a word; ends of lines count as words."""
    loss = mean_loss(step, stream, before, length)
    return {"loss": loss, "perplexity": perplexity(loss)}


def without_carry(batches: Iterator[StreamBatch]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches without their carries, for a model that has no state."""
    return ((inputs, targets) for inputs, targets, _ in batches)
