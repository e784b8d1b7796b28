"""Training passes that are made outside of ``step``: by ``minimize``, or by a trainer that owns the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.optim import Optimizer

from dcao.gradients.backward_watch import BackwardWatch
from dcao.gradients.gradient_mark import GradientMark
from dcao.gradients.since_backward import SinceBackward
from dcao.isolation import RngState, capture_rng, restore_rng
from dcao.loop.probe_loop import ProbeLoop
from dcao.operators.precision import coarsest_half, half_precision_of
from dcao.probing.batch import Batch, Closure
from dcao.probing.ranks import together
from dcao.probing.training_pass import run_closure
from dcao.state.places import Place
from dcao.state.probing import is_probing
from dcao.telling.trainers import tell_of_callback
from dcao.vectors import params_of

if TYPE_CHECKING:
    from dcao.optimizer import DCAO

T = TypeVar("T")


class ComingPass:
    """The pass that the coming step is taken on, where it was made before ``step`` is called.

    Wrappers that a trainer puts around DCAO hand on its attributes, but keep what is assigned to them. So this is one
    object that is changed in place, and ``wrapper.minimize(loss_fn)`` reaches the DCAO inside.

    Attributes:
        batch: Of ``minimize``.
        followed: Of a trainer.
    """

    def __init__(self) -> None:
        self.batch: Batch | None = None
        self.followed: FollowedPass | None = None

    @property
    def is_known(self) -> bool:
        """Whether a pass was made, or is going to be made by the closure of the step."""
        return self.batch is not None or self.followed is not None

    @property
    def is_made(self) -> bool:
        """Whether a pass was made."""
        return self.batch is not None or (self.followed is not None and self.followed.loss is not None)

    def take(self) -> Batch | None:
        """Its batch, once; None if no pass was made, or none that reached the parameters."""
        batch, followed = self.batch, self.followed
        self.forget()
        return followed.end() if batch is None and followed is not None else batch

    def forget(self) -> None:
        """Forget a pass whose step is not taken."""
        if self.followed is not None:
            self.followed.stop_watching()
        self.batch = self.followed = None

    def __reduce__(self) -> tuple[type[ComingPass], tuple[()]]:
        return ComingPass, ()  # a copy of the optimizer has made no pass


def pass_of(optimizer: DCAO, closure: Closure | None) -> tuple[Any, Batch | None]:
    """What the closure of a step returns, and the batch of the step: of the pass made before, or of the closure."""
    if closure is None or optimizer.coming.is_known:  # a trainer may add a closure that only calls hooks
        return None if closure is None else closure(), optimizer.coming.take()
    rng_state = optimizer.before_loss(closure)
    loop, before = optimizer.loop, None
    if rng_state is not None:  # a probe is due
        tell_of_callback(closure, optimizer.notices)
        before = None if loop.turns.has_begun else GradientMark(params_of(optimizer))
    loss, batch = run_closure(closure, loop.probe, rng_state, optimizers=(optimizer, optimizer.base))
    optimizer.gradients.check_closure(loss)
    # A trainer has a closure for steps without one, which does nothing, and in which there is nothing to probe.
    does_nothing = loss is None and batch.is_watched_in_vain and before is not None and before.is_unchanged()
    return loss, None if does_nothing else batch


def forward_pass(optimizer: DCAO, evaluate: Callable[[], T]) -> T:
    """What ``evaluate`` returns, which is the forward pass of a trainer before it calls backward.

    Where parameters are in shards, it fails in a probe on all ranks or on none: the others would wait for a rank that
    does not come to its backward pass. In training it is left to torch.
    """
    ranks = optimizer.loop.probe.model.look()[1] if is_probing() else None
    if ranks is None or ranks.are_replicas:
        return evaluate()
    gathering = ranks.gathering
    return together(lambda: gathering.forward(evaluate), ranks)


class FollowedPass:
    """Forward and backward passes of a trainer, from before the first one to the step that is taken on them.

    To make one and to :meth:`add` to it says: what these functions do I am about to do myself. The next ``step()`` then
    knows its batch, and a probe measures it as if the step had been ``minimize``.

    Args:
        optimizer: Whose step it will be.
        reached: Objects whose state the passes use or change, beside the model's and the trainer's.
        precision: Half-precision dtype in which the loss is computed; None: in none that is known.

    Attributes:
        loss: Sum of the losses of its passes so far, detached; None before the first.
    """

    def __init__(
        self,
        optimizer: DCAO,
        *,
        reached: Sequence[object] = (),
        precision: torch.dtype | None = None,
    ) -> None:
        self.loss: Any = None
        self._precision = precision
        self._parts: list[_Part] = []
        self._loop: ProbeLoop = optimizer.loop
        self._optimizers: Sequence[Optimizer] = (optimizer, optimizer.base)
        optimizer.coming.forget()
        self._rng_state = optimizer.before_loss(list(reached))
        probe, self._watch = self._loop.probe, None
        if self._rng_state is not None:
            self._watch = BackwardWatch(probe.params(), modules=probe.model.look()[0]).__enter__()
        optimizer.coming.followed = self

    def add(self, function: Callable[[], Any], *, variables: Sequence[Place] = ()) -> None:
        """A micro-batch whose passes come now.

        Args:
            function: Makes them once more; returns its share of the step's loss, None if it skips its backward pass.
            variables: What it reads, and may hold something else when it is called again.
        """
        streams = None if self._watch is None else capture_rng(self._loop.probe.params())
        self._parts.append(_Part(function, streams, [(place, place.read()) for place in variables]))

    def note(self, loss: Any) -> None:
        """Add the loss of a micro-batch that was made; with its graph it also tells the precision."""
        if loss is not None:
            if self._watch is not None:
                self._precision = coarsest_half({half_precision_of(loss), self._precision})
            loss = loss.detach()
            self.loss = loss if self.loss is None else self.loss + loss

    def stop_watching(self) -> None:
        """Take the hooks off the parameters."""
        if self._watch is not None:
            self._watch.__exit__(None, None, None)

    def end(self) -> Batch | None:
        """The batch of the passes that were made; None if none was, or it skipped its backward pass."""
        self.stop_watching()
        since = None
        if self._watch is not None:
            since = SinceBackward.of_closure(self._watch, self._loop.probe.model, *self._optimizers)
        if self.loss is None or (self._watch is not None and since is None):
            return None
        return Batch(
            closure=self._again,
            rng_state=self._rng_state,
            loss=self.loss,
            precision=self._precision,
            is_training=True,
            differentiation=self._loop.probe.differentiation,
            since_backward=since,
        )

    def _again(self) -> Any:
        """All passes once more, each from the random numbers that it had; the loss of the step."""
        losses = [loss.detach() for part in self._parts if (loss := part()) is not None]
        return torch.stack(losses).sum() if losses else None


@dataclass(frozen=True)
class _Part:
    """One micro-batch."""

    function: Callable[[], Any]
    streams: RngState | None
    variables: Sequence[tuple[Place, Any]]

    def __call__(self) -> Any:
        if self.streams is not None:
            restore_rng(self.streams)
        now = [(place, place.read()) for place, _ in self.variables]
        try:
            for place, content in self.variables:
                place.write(content)
            return self.function()
        finally:
            for place, content in now:
                place.write(content)
