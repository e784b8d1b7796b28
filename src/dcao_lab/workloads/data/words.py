"""A text corpus as word numbers, counted as perplexities of PTB and WikiText-2 are since Mikolov et al. 2010."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dcao_lab.errors import LabError
from dcao_lab.workloads.base import SplitName
from dcao_lab.workloads.data.textfiles import SPLITS, TextSource, read_lines

END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"


@dataclass(frozen=True, kw_only=True)
class WordCorpus:
    """The splits of a corpus, each as one stream of word numbers.

    Attributes:
        streams: The word numbers of each split, with one for the end of every line.
        vocabulary: The number of each word of the training text, in order of appearance.
    """

    streams: dict[SplitName, Tensor]
    vocabulary: dict[str, int]

    @property
    def end_of_line(self) -> int:
        """The number of the end of a line, which also precedes the first word."""
        return self.vocabulary[END_OF_LINE]


def read_words(source: TextSource, data_dir: Path | None) -> WordCorpus:
    """The corpus in word numbers, with the vocabulary of the training text.

    Raises:
        LabError: The corpus is missing, or a split has words that the training text does not have, and the training
            text has no ``<unk>`` to replace them.
    """
    words = {split: line_words(read_lines(source, split, data_dir)) for split in SPLITS}
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words["train"]))}
    return WordCorpus(
        streams={split: torch.tensor(_numbers(words[split], vocabulary, source)) for split in SPLITS},
        vocabulary=vocabulary,
    )


def line_words(lines: Iterable[str]) -> list[str]:
    """The words of all lines, with ``<eos>`` after every line, also after an empty one.

    Example:
        >>> line_words(["no it was n't", ""])
        ['no', 'it', 'was', "n't", '<eos>', '<eos>']
    """
    return [word for line in lines for word in (*line.split(), END_OF_LINE)]


def _numbers(words: list[str], vocabulary: dict[str, int], source: TextSource) -> list[int]:
    strange = next((word for word in words if word not in vocabulary), None)
    if strange is not None and UNKNOWN not in vocabulary:
        raise LabError(
            f"{source.hub.title} must have {UNKNOWN} for rare words, but its training text has none and no {strange!r} "
            f"either; use the preprocessed files ({source.files['train']}), not the raw text"
        )
    unknown = vocabulary.get(UNKNOWN, 0)
    return [vocabulary.get(word, unknown) for word in words]
