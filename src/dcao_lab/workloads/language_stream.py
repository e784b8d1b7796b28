"""Training and evaluation on one continuous stream of tokens, with the recurrent state carried along."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LayerState = tuple[Tensor, Tensor]  # hidden, cell
State = tuple[LayerState, ...]
Step = Callable[[Tensor, State | None], tuple[Tensor, State | None]]  # tokens to logits, and the state after them
EVALUATION_COLUMNS = 10  # AWD-LSTM's and the PyTorch example's eval_batch_size
NO_TARGET = -100  # what cross_entropy passes over


class Carry:
    """The recurrent state in which a batch starts, and the one in which it leaves the next batch.

    It belongs to the batch and not to the model: whoever evaluates the batch again, at other weights and however often,
    starts from the same state and does not move the next batch's.

    Args:
        previous: Carry of the batch before; None at the beginning of the stream.
    """

    def __init__(self, previous: "Carry | None" = None) -> None:
        self._previous = previous
        self._start: State | None = None
        self._end: State | None = None

    def start(self) -> State | None:
        """The state the batch starts in, decided when it is first asked for; None: all zeros."""
        if self._previous is not None:
            self._start, self._previous = self._previous._end, None  # and let go of the chain
        return self._start

    def finish(self, state: State) -> None:
        """Leave the state to the next batch; only the first call counts.

        What is not a finite number is left as zero: a step that the guard has skipped must not spoil the batches after.
        """
        if self._end is None:
            self._end = tuple((_finite(hidden), _finite(cell)) for hidden, cell in state)


StreamBatch = tuple[Tensor, Tensor, Carry]  # inputs and targets (batch, length), and the state


def stream_batches(stream: Tensor, batch_size: int, length: int, order: torch.Generator) -> Iterator[StreamBatch]:
    """Batches without end: the stream in ``batch_size`` columns, read ``length`` tokens at a time.

    Every epoch starts in a fresh state, and at an offset below ``length`` that the seed decides, so that the windows
    are cut elsewhere (Merity et al. vary their lengths for that). The rest of a column is left out.
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
    """Mean cross-entropy in nats a token, from the state the batch starts in."""
    inputs, targets, carry = batch
    logits, state = model(inputs, carry.start())
    if model.training:
        carry.finish(state)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def token_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy in nats a token of a model without a state."""
    inputs, targets = batch
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def stateless(model: nn.Module) -> Step:
    """A model that has no state, in the form of one that has."""
    return lambda tokens, state: (model(tokens), None)


def mean_loss(step: Step, stream: Tensor, before: int, length: int, columns: int = EVALUATION_COLUMNS) -> float:
    """Cross-entropy in nats a token over the whole stream, each token counted once.

    The stream is read in columns side by side, whose state is carried from window to window.

    Args:
        step: Logits of the next tokens.
        stream: The tokens.
        before: Token that stands before the first one.
        length: Tokens at a time.
        columns: Columns; fewer if the stream is short.
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
    """The exponential of a loss; infinite where the number would be too large.

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
