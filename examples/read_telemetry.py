"""Write a log, read it back, and ask another policy what it would have decided."""

import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

from dcao import DCAO, JsonlRecorder, policies, read_jsonl, replay


def main() -> None:
    torch.manual_seed(0)
    inputs, model = torch.randn(512, 10), torch.nn.Linear(10, 3)
    labels = inputs[:, :3].argmax(dim=1)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "telemetry.jsonl"
        optimizer = DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3), every=20, recorder=JsonlRecorder(log))
        for _ in range(200):
            optimizer.minimize(lambda: F.cross_entropy(model(inputs), labels))
        records = read_jsonl(log)
        careful = replay(log, policies.LearningRate(target=0.5))
    for record, other in list(zip(records, careful, strict=True))[-5:]:
        print(f"step {record.step}: {record.decision.reason}  |  at target 0.5: lr {other.hyperparameters.lr:.3g}")


if __name__ == "__main__":
    main()
