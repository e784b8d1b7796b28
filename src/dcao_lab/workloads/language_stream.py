"""Training and evaluation on one continuous stream of tokens, with a recurrent state that batches hand on."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LayerState = tuple[Tensor, Tensor]  # hidden, cell
State = tuple[LayerState, ...]
Step = Callable[[Tensor, State | None], tuple[Tensor, State | None]]  # tokens to logits, and the state after them
EVALUATION_COLUMNS = 10  # eval_batch_size of AWD-LSTM and of PyTorch's example
NO_TARGET = -100  # a target that cross_entropy ignores


class Carry:
    """The recurrent state in which a batch starts, and the one in which the next batch starts.

    It belongs to the batch and not to the model. So each further evaluation of the batch, at whatever weights, starts
    from the same state and does not change the state of the next batch.

    Args:
        previous: Carry of the batch before; None at the beginning of the stream.
    """

    def __init__(self, previous: "Carry | None" = None) -> None:
        self._previous = previous
        self._start: State | None = None
        self._end: State | None = None

    def start(self) -> State | None:
        """The state in which the batch starts, fixed by the first call; None stands for all zeros."""
        if self._previous is not None:
            self._start, self._previous = self._previous._end, None  # and free the chain of earlier batches
        return self._start

    def finish(self, state: State) -> None:
        """Hand the state on to the next batch; only the first call has an effect.

        Entries that are not finite become zero, because a step that the guard skips must not spoil later batches.
        """
        if self._end is None:
            self._end = tuple((_finite(hidden), _finite(cell)) for hidden, cell in state)


StreamBatch = tuple[Tensor, Tensor, Carry]  # inputs and targets (batch, length), and the state


def stream_batches(stream: Tensor, batch_size: int, length: int, order: torch.Generator) -> Iterator[StreamBatch]:
    """An endless stream of batches: the text in ``batch_size`` columns, read ``length`` tokens at a time.

    Every epoch starts with a new state, and at a random offset below ``length``, so that its windows differ from those
    of the epoch before (Merity et al. vary the lengths for that). The rest of a column is left out.
    """
    column_length = len(stream) // batch_size
    columns = stream[: batch_size * column_length].view(batch_size, column_length)
    while True:
        carry = None
        first = int(torch.randint(min(length, column_length - length), (), generator=order))
        for start in range(first, column_length - length, length):
            carry = Carry(carry)
            yield columns[:, start : start + length], columns[:, start + 1 : start + length + 1], carry


def stream_loss(model: nn.Module, batch: StreamBatch) -> Tensor:
    """Mean cross-entropy of a recurrent model in nats a token, from the state in which the batch starts."""
    inputs, targets, carry = batch
    logits, state = model(inputs, carry.start())
    if model.training:
        carry.finish(state)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def token_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy of a model without a state, in nats a token."""
    inputs, targets = batch
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def stateless(model: nn.Module) -> Step:
    """A model without a state as a step that takes and returns a state (None)."""
    return lambda tokens, state: (model(tokens), None)


def mean_loss(step: Step, stream: Tensor, before: int, length: int, columns: int = EVALUATION_COLUMNS) -> float:
    """Mean cross-entropy over a whole stream in nats a token; each token counts once.

    The stream is read in parallel columns, with the state carried from window to window.

    Args:
        step: Returns the logits of the next tokens, and the next state.
        stream: The tokens.
        before: The token that precedes the first one.
        length: Number of tokens in a window.
        columns: Number of columns; fewer are used if the stream is short.
    """
    inputs = torch.cat([stream.new_tensor([before]), stream[:-1]])
    inputs, targets = _columns(inputs, columns, fill=before), _columns(stream, columns, fill=NO_TARGET)
    total, state = 0.0, None
    for start in range(0, inputs.shape[1], length):
        logits, state = step(inputs[:, start : start + length], state)
        labels = targets[:, start : start + length].flatten()
        total += F.cross_entropy(logits.flatten(0, 1), labels, reduction="sum", ignore_index=NO_TARGET).item()
    return total / len(stream)


def perplexity(loss: float) -> float:
    """The exponential of a loss in nats; infinite if the loss is 700 or more.

    Example:
        >>> perplexity(0.0), perplexity(1000.0)
        (1.0, inf)
    """
    return math.exp(loss) if loss < 700.0 else math.inf


def _columns(tokens: Tensor, columns: int, fill: int) -> Tensor:
    length = math.ceil(len(tokens) / columns)
    missing = columns * length - len(tokens)
    return F.pad(tokens, (0, missing), value=fill).view(columns, length)


def _finite(values: Tensor) -> Tensor:
    return values.detach().nan_to_num(0.0, posinf=0.0, neginf=0.0)
