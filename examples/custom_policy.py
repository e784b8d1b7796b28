"""A policy of one's own: cut the lr to a safe value as soon as s passes the edge, and creep back up below it."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F

from dcao import DCAO, Decision, Hyperparameters, MemoryRecorder, Observation, Policy, replay


@dataclass(frozen=True, kw_only=True)
class Hysteresis(Policy):
    """Pure: the same observation and state give the same decision, so a log replays."""

    edge: float = 2.0
    safe: float = 1.0
    growth: float = 1.02

    def init(self, hyperparameters: Hyperparameters) -> dict[str, Any]:
        return {"cuts": 0}

    def propose(self, observation: Observation, state: dict[str, Any]) -> tuple[Decision, dict[str, Any]]:
        now = observation.hyperparameters
        if observation.s is None or observation.trust < 0.5 or observation.s <= 0.0:
            return Decision(hyperparameters=now, reason="held"), state
        if observation.s > self.edge:
            lr = now.lr * self.safe / observation.s
            reason = f"s {observation.s:.2f} is over the edge: cut to s = {self.safe}"
            return Decision(hyperparameters=replace(now, lr=lr), reason=reason), {"cuts": state["cuts"] + 1}
        return Decision(hyperparameters=replace(now, lr=now.lr * self.growth), reason="under the edge: creep up"), state


def main() -> None:
    torch.manual_seed(0)
    inputs, model = torch.randn(512, 10), torch.nn.Linear(10, 3)
    labels = inputs[:, :3].argmax(dim=1)
    recorder = MemoryRecorder()
    optimizer = DCAO(torch.optim.SGD(model.parameters(), lr=30.0), policy=Hysteresis(), every=5, recorder=recorder)
    for _ in range(200):
        optimizer.minimize(lambda: F.cross_entropy(model(inputs), labels))
    for record in recorder.records[:5]:
        print(record.step, record.decision.reason)
    assert replay(recorder.records, Hysteresis()) == [record.decision for record in recorder.records]


if __name__ == "__main__":
    main()
