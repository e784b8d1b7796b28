"""What kind of text twelve words are from, by a mean of their embeddings (fastText, Joulin et al. 2017).

Words are hashed into a table of which a batch moves few rows, some of them often and most of them hardly ever.
"""

import zlib
from functools import cache

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import Splits, WorkloadInfo, with_replacement
from dcao_lab.workloads.classification import ClassificationWorkload
from dcao_lab.workloads.unseen.splits import shuffled_splits
from dcao_lab.workloads.unseen.texts import dataset_descriptions, documentation, library_source, licences

NUM_ROWS, WIDTH, NUM_WORDS = 4096, 32, 12
NUM_CHARACTERS = 200_000  # of each text, at most
TRAIN_SHARE = 0.8
TEXTS = (documentation, licences, dataset_descriptions, library_source)

INFO = WorkloadInfo(
    name="bag_of_words",
    title="Bag of words",
    summary=f"source of {NUM_WORDS} words out of {len(TEXTS)}, mean of embeddings in {NUM_ROWS} hashed rows, batch 64",
    target=0.66,
    batch_size=64,
    num_steps=500,
    eval_every=50,
    step_cost=0.6,
)


def hashed(text: str) -> Tensor:
    """Rows (pieces, words) of the words of a text, the same on every machine."""
    words = text[:NUM_CHARACTERS].split()
    rows = torch.tensor([zlib.crc32(word.encode()) % NUM_ROWS for word in words])
    return rows[: len(rows) // NUM_WORDS * NUM_WORDS].view(-1, NUM_WORDS)


@cache
def splits() -> Splits:
    """Pieces of the texts, and which of them they are from."""
    pieces = [hashed(text()) for text in TEXTS]
    labels = torch.cat([torch.full((len(rows),), label) for label, rows in enumerate(pieces)])
    return shuffled_splits(torch.cat(pieces), labels, int(TRAIN_SHARE * len(labels)))


def build() -> nn.Module:
    """Embeddings and a linear classifier: 131 204 parameters."""
    return nn.Sequential(nn.EmbeddingBag(NUM_ROWS, WIDTH), nn.Linear(WIDTH, len(TEXTS)))


WORKLOADS = (ClassificationWorkload(INFO, build, splits, num_classes=len(TEXTS), draw=with_replacement),)
