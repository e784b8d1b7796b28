"""A text corpus in the tokens of GPT-2's byte-level BPE (Radford et al. 2019)."""

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcao_lab.errors import LabError
from dcao_lab.workloads.base import SplitName
from dcao_lab.workloads.data.folders import extra
from dcao_lab.workloads.data.textfiles import SPLITS, HubFiles, TextSource, hub_file, places, read_lines
from dcao_lab.workloads.data.words import line_words

TITLE = "GPT-2's tokenizer"
END_OF_TEXT = "<|endoftext|>"
FOLDERS = ("gpt2",)
REPOSITORY = "openai-community/gpt2"


ADVICE = (
    f"put the vocab.json and merges.txt of {REPOSITORY} into the data folder, or start once without --data-dir on a "
    "machine with a network"
)


@dataclass(frozen=True, kw_only=True)
class TokenSplit:
    """Lines of text in tokens.

    Attributes:
        tokens: The token numbers of all lines as one stream.
        num_words: Number of words, counted as the word-level models do, with ends of lines.
    """

    tokens: Tensor
    num_words: int


@dataclass(frozen=True, kw_only=True)
class TokenCorpus:
    """The splits of a corpus in tokens.

    Attributes:
        train: The tokens of all training text.
        evaluated: The text of each split that is evaluated; for the training text its first lines, with no more tokens
            than the test text has.
        num_tokens: Size of the vocabulary.
        end_of_text: The token for the end of a text, which also precedes the first token.
    """

    train: Tensor
    evaluated: dict[SplitName, TokenSplit]
    num_tokens: int
    end_of_text: int


def read_tokens(source: TextSource, data_dir: Path | None) -> TokenCorpus:
    """The corpus in the tokens of GPT-2's own vocabulary.

    Raises:
        LabError: The text or the vocabulary is missing.
    """
    lines = {split: read_lines(source, split, data_dir) for split in SPLITS}
    tokenizer = read_tokenizer(data_dir)
    encoded = {split: encode_lines(tokenizer, lines[split]) for split in SPLITS}
    limits = {split: sum(map(len, encoded["test" if split == "train" else split])) for split in SPLITS}
    return TokenCorpus(
        train=_tensor(encoded["train"]),
        evaluated={split: _first_lines(encoded[split], lines[split], limits[split]) for split in SPLITS},
        num_tokens=tokenizer.get_vocab_size(),
        end_of_text=tokenizer.token_to_id(END_OF_TEXT),
    )


def read_tokenizer(data_dir: Path | None) -> Any:
    """GPT-2's tokenizer, from ``vocab.json`` and ``merges.txt``, from ``tokenizer.json``, or from the hub.

    Raises:
        LabError: There is none, it cannot be read, or it has no token for the end of a text.
    """
    if data_dir is None:
        hub = HubFiles(title=TITLE, repository=REPOSITORY, kind="model", advice=ADVICE)
        return _byte_level(hub_file(hub, "vocab.json"), hub_file(hub, "merges.txt"))
    for folder in places(data_dir, FOLDERS):
        vocab, merges, whole = (folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json"))
        if vocab.is_file() and merges.is_file():
            return _byte_level(vocab, merges)
        if whole.is_file():
            return _checked(lambda path: extra("tokenizers", TITLE).Tokenizer.from_file(str(path)), whole)
    raise LabError(
        f"{TITLE} is missing: neither vocab.json and merges.txt nor tokenizer.json are in {data_dir} or its subfolder "
        f"{', '.join(FOLDERS)}; {ADVICE}"
    )


def encode_lines(tokenizer: Any, lines: Sequence[str]) -> list[list[int]]:
    """The tokens of each line, written as in WikiText's files: with a space on either side, and a line feed."""
    spelled = [f" {line} \n" if line else " \n" for line in lines]
    return [encoding.ids for encoding in tokenizer.encode_batch(spelled, add_special_tokens=False)]


def _byte_level(vocab: Path, merges: Path) -> Any:
    tokenizers = extra("tokenizers", TITLE)

    def build(path: Path) -> Any:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(path), str(merges)))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        return tokenizer

    return _checked(build, vocab)


def _checked(build: Callable[[Path], Any], path: Path) -> Any:
    try:
        tokenizer = build(path)
    except LabError:
        raise
    except Exception as error:  # the library raises nothing more specific
        raise LabError(f"{path} cannot be read: {error}; {ADVICE}") from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise LabError(f"{path} must have the token {END_OF_TEXT}, as GPT-2's has, and does not; {ADVICE}")
    return tokenizer


def _first_lines(encoded: Sequence[Sequence[int]], lines: Sequence[str], limit: int) -> TokenSplit:
    ends = list(itertools.accumulate(map(len, encoded)))
    number = max(1, bisect.bisect_right(ends, limit))
    return TokenSplit(tokens=_tensor(encoded[:number]), num_words=len(line_words(lines[:number])))


def _tensor(encoded: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([token for line in encoded for token in line])
