"""The AWD-LSTM language model (Merity, Keskar and Socher, ICLR 2018) on torch's own LSTM kernel.

All randomness comes from torch's random stream, so an evaluation that replays the stream sees the same dropout masks.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.language_stream import LayerState, State

INIT_RANGE = 0.1  # range of the initial embedding, as in salesforce/awd-lstm-lm; the LSTM has torch's own


@dataclass(frozen=True, kw_only=True)
class LSTMShape:
    """Sizes and dropout rates; the defaults are those of the paper for Penn Treebank.

    Attributes:
        embedding: Length of a word vector, and of the state of the last layer, because the decoder shares the vectors.
        width: Length of the state of the other layers.
        num_layers: Number of LSTM layers.
        word_dropout: Share of the vocabulary whose occurrences in a batch are all dropped.
        input_dropout: Dropout rate of the word vectors.
        hidden_dropout: Dropout rate between layers.
        output_dropout: Dropout rate after the last layer.
        weight_dropout: Dropout rate of the hidden-to-hidden weights.
    """

    embedding: int = 400
    width: int = 1150
    num_layers: int = 3
    word_dropout: float = 0.1
    input_dropout: float = 0.4
    hidden_dropout: float = 0.3
    output_dropout: float = 0.4
    weight_dropout: float = 0.5


class AWDLSTM(nn.Module):
    """Word vectors, LSTM layers with dropout of their weights, and a decoder that shares the word vectors.

    It has 24.2 million parameters with 10 000 words and 33.6 million with 33 278 words, as the paper reports.
    """

    def __init__(self, num_words: int, shape: LSTMShape) -> None:
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(num_words, shape.embedding)
        sizes = [shape.embedding, *[shape.width] * (shape.num_layers - 1), shape.embedding]
        self.layers = nn.ModuleList(
            nn.LSTM(before, after, batch_first=True) for before, after in itertools.pairwise(sizes)
        )
        self.decoder_bias = nn.Parameter(torch.zeros(num_words))
        nn.init.uniform_(self.words.weight, -INIT_RANGE, INIT_RANGE)

    def forward(self, words: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits (batch, length, vocabulary) of the next words, and the state after them."""
        hidden = locked_dropout(self._embed(words), self.shape.input_dropout, self.training)
        after = []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.LSTM)
            hidden, end = self._run(layer, hidden, None if state is None else state[index])
            after.append(end)
            is_last = index == len(self.layers) - 1
            rate = self.shape.output_dropout if is_last else self.shape.hidden_dropout
            hidden = locked_dropout(hidden, rate, self.training)
        return F.linear(hidden, self.words.weight, self.decoder_bias), tuple(after)

    def _embed(self, words: Tensor) -> Tensor:
        """Word vectors; a dropped word is zero at all of its occurrences."""
        kept = F.dropout(self.words.weight.new_ones(len(self.words.weight), 1), self.shape.word_dropout, self.training)
        vectors: Tensor = self.words(words)
        return vectors * kept[words]

    def _run(self, layer: nn.LSTM, inputs: Tensor, state: LayerState | None) -> tuple[Tensor, LayerState]:
        if state is None:
            zeros = inputs.new_zeros(1, len(inputs), layer.hidden_size)
            state = (zeros, zeros)
        # nn.LSTM calls torch.lstm too; called directly, it accepts weights that are the result of a dropout.
        of_inputs, recurrent, *biases = layer.all_weights[0]
        weights = [of_inputs, F.dropout(recurrent, self.shape.weight_dropout, self.training), *biases]
        outputs, hidden, cell = torch.lstm(inputs, state, weights, True, 1, 0.0, self.training, False, True)
        return outputs, (hidden, cell)


def locked_dropout(hidden: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout of (batch, length, width) with one mask for all positions of a sequence (Gal and Ghahramani 2016)."""
    return hidden * F.dropout(hidden.new_ones(len(hidden), 1, hidden.shape[2]), rate, training)
