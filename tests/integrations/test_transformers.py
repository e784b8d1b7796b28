"""The Trainer of Hugging Face trains with DCAO as a loop of one's own does, and is not disturbed by probes."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from accelerate.utils import DistributedType  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from dcao import DCAO, MemoryRecorder, policies  # noqa: E402
from dcao.integrations.accelerate import dcao_of, refuse_engines  # noqa: E402
from dcao.integrations.transformers import DCAOMixin, DCAOTrainer  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*pin_memory.*:UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

LENGTH, BATCH = 12, 4


def gpt() -> GPT2LMHeadModel:
    """With dropout, so that a probe that drew from the random streams would show."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=16,
        n_positions=LENGTH,
        n_embd=8,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # which shifts labels, so that the Trainer does not count the first token
    return model


def sentences(count: int) -> list[dict[str, list[int]]]:
    """Arithmetic progressions, of which the first tokens are not learned: batches differ in their number of items."""
    rows = []
    for index in range(count):
        tokens = [(7 * index + 3 * place) % 16 for place in range(LENGTH)]
        hidden = index % 5
        rows.append({"input_ids": tokens, "labels": [-100] * hidden + tokens[hidden:]})
    return rows


def arguments(folder, **settings) -> TrainingArguments:
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_nan_inf_filter": False,
    }
    return TrainingArguments(**(defaults | settings))


def adamw(model: torch.nn.Module, lr: float = 1e-3) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=lr)


class Watch(TrainerCallback):
    """What a loop of one's own has to begin with, and the lrs that the base optimizer steps with."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.batches: list[dict[str, torch.Tensor]] = []
        self.rng_state: torch.Tensor | None = None
        self.lrs: list[float] = []
        base.register_step_pre_hook(lambda optimizer, *_: self.lrs.append(float(optimizer.param_groups[0]["lr"])))

    def on_step_begin(self, *_, **__) -> None:
        self.rng_state = torch.get_rng_state() if self.rng_state is None else self.rng_state

    def collate(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        batch = {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}
        self.batches.append(batch)
        return batch


def own_loop(watch: Watch, *, accumulation: int, clip: float, total: int) -> tuple[torch.nn.Module, list[float]]:
    """The same training in plain torch: a closure that accumulates and clips, and a linear scheduler."""
    model = gpt().train()
    optimizer = DCAO(adamw(model))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, (total - step) / total))
    lrs: list[float] = []
    optimizer.base.register_step_pre_hook(lambda base, *_: lrs.append(float(base.param_groups[0]["lr"])))
    torch.set_rng_state(watch.rng_state)
    for start in range(0, len(watch.batches), accumulation):
        parts = watch.batches[start : start + accumulation]
        # As the Trainer counts them: of n tokens n - 1 are predicted, and the first of the row never is.
        items = sum(int((part["labels"][:, 1:] != -100).sum()) for part in parts)

        def closure(parts=parts, items=items):
            optimizer.zero_grad()
            total_loss = torch.zeros(())
            for part in parts:
                loss = model(**part, num_items_in_batch=torch.tensor(items)).loss
                loss.backward()
                total_loss = total_loss + loss.detach()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            return total_loss

        optimizer.step(closure)
        scheduler.step()
    return model, lrs


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(("accumulation", "clip"), [(1, 1.0), (3, 0.3)])
def test_the_trainer_takes_the_steps_of_a_loop_of_ones_own(accumulation, clip, tmp_path):
    model = gpt()
    optimizer = DCAO(adamw(model))
    watch = Watch(optimizer.base)
    trainer = DCAOTrainer(
        model,
        arguments(tmp_path, gradient_accumulation_steps=accumulation, max_grad_norm=clip),
        train_dataset=sentences(96),
        data_collator=watch.collate,
        optimizers=(optimizer, None),
        callbacks=[watch],
    )
    trainer.train()
    expected, lrs = own_loop(watch, accumulation=accumulation, clip=clip, total=trainer.state.max_steps)
    assert len(watch.lrs) == 24 // accumulation
    assert watch.lrs == lrs
    assert torch.equal(weights(model), weights(expected))
    logged = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert logged == lrs  # and not the nominal lr of the scheduler


def test_any_learning_rate_leads_to_the_same_run_under_the_trainers_default_scheduler(tmp_path):
    found = []
    for lr in (1e-6, 10.0):
        trainer = DCAOTrainer(gpt(), arguments(tmp_path, learning_rate=lr), train_dataset=sentences(96))
        trainer.train()
        found.append((weights(trainer.model), [entry.get("loss") for entry in trainer.state.log_history]))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][1][-2] < 0.95 * found[0][1][0]  # it learns: a uniform guess has log(16) = 2.77
    assert found[0][1][0] == pytest.approx(math.log(16), abs=0.1)


def test_the_optimizer_that_the_arguments_ask_for_is_wrapped_with_its_groups(tmp_path):
    trainer = DCAOTrainer(gpt(), arguments(tmp_path, weight_decay=0.3, max_steps=2), train_dataset=sentences(8))
    trainer.train()
    optimizer = dcao_of(trainer.optimizer)
    assert type(optimizer.base) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    trainer.train()  # once more: what is wrapped already is taken as it is
    assert dcao_of(trainer.optimizer) is optimizer


class CountingBare(Trainer):
    """Counts in ways that a probe must undo, an attribute and a list, and takes from its inputs."""

    def __init__(self, *args, **kwargs) -> None:
        self.num_losses, self.seen = 0, []
        super().__init__(*args, **kwargs)

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.num_losses += 1
        self.seen.append(int(inputs.pop("marker").sum()))
        return super().compute_loss(model, inputs, *args, **kwargs)


class Counting(DCAOMixin, CountingBare):
    """The same with DCAO."""


def timeless(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [
        {name: each for name, each in entry.items() if not name.endswith(("second", "runtime"))} for entry in history
    ]


def test_probes_leave_the_log_the_evaluations_the_random_streams_and_the_data_alone(tmp_path):
    rows = [{**row, "marker": index} for index, row in enumerate(sentences(48))]
    settings = {"eval_strategy": "steps", "eval_steps": 5, "remove_unused_columns": False, "num_train_epochs": 2}
    found = []
    for kind in (CountingBare, Counting):
        model = gpt()
        bare = adamw(model)
        optimizer = bare if kind is CountingBare else DCAO(bare, policy=policies.Fixed(), every=2)
        trainer = kind(
            model,
            arguments(tmp_path, gradient_accumulation_steps=2, **settings),
            train_dataset=rows,
            eval_dataset=rows[:8],
            optimizers=(optimizer, None),
        )
        trainer.train()
        counted = (trainer.num_losses, trainer.seen, torch.get_rng_state().tolist())
        found.append((timeless(trainer.state.log_history), *counted, weights(model).tolist()))
    assert found[0] == found[1]
    assert optimizer.probe_cost >= 6.0  # of 12 steps every second one was probed


def test_a_run_that_is_resumed_from_a_checkpoint_goes_on_bit_for_bit(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 7, "num_train_epochs": 1, "max_grad_norm": 0.2}
    whole = DCAOTrainer(gpt(), arguments(tmp_path / "whole", **settings), train_dataset=sentences(60))
    whole.train()
    half = DCAOTrainer(gpt(), arguments(tmp_path / "half", **settings), train_dataset=sentences(60))
    half.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-7"))
    assert dcao_of(half.optimizer).num_steps == 15
    assert torch.equal(weights(half.model), weights(whole.model))
    assert timeless(half.state.log_history)[7:15] == timeless(whole.state.log_history)[7:15]


def cross_entropy(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    logits = outputs.logits[:, :-1].flatten(0, 1)
    return F.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum") / num_items_in_batch


SETTINGS = {
    "label smoothing": {"label_smoothing_factor": 0.1},
    "a loss of one's own": {"compute_loss_func": cross_entropy, "gradient_accumulation_steps": 2},
    "checkpointing": {"gradient_checkpointing": True},
    "re-entrant checkpointing": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "noise in embeddings": {"neftune_noise_alpha": 5.0},
    "warmup from 0": {"warmup_steps": 3},
    "no scheduler to speak of": {"lr_scheduler_type": "constant"},
    "no clip": {"max_grad_norm": 0.0},
    "sgd": {"optim": "sgd"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_pass_is_probed_whatever_the_settings_make_of_it(settings, tmp_path):
    """At one evaluation a probe, and one more for the check at the first whether the loss repeats."""
    own = {name: each for name, each in settings.items() if name == "compute_loss_func"}
    others = {name: each for name, each in settings.items() if name not in own}
    trainer = DCAOTrainer(gpt(), arguments(tmp_path, max_steps=8, **others), train_dataset=sentences(64), **own)
    trainer.train()
    optimizer = dcao_of(trainer.optimizer)
    assert optimizer.probe_cost == 3.0  # at steps 0 (with a warmup from 0, at step 1) and 5
    assert optimizer.last_estimate.trust > 0.0
    assert optimizer.effective_lrs != [1e-3]


def test_a_probe_knows_the_precision_of_the_trainer(tmp_path):
    recorder = MemoryRecorder()
    model = gpt()
    optimizer = DCAO(adamw(model), recorder=recorder)
    settings = arguments(tmp_path, bf16=True, max_steps=3)
    DCAOTrainer(model, settings, train_dataset=sentences(12), optimizers=(optimizer, None)).train()
    assert "computed in torch.bfloat16" in recorder.records[0].estimate.reason


@pytest.mark.parametrize("is_assigned", [False, True], ids=["of the class", "assigned to the trainer"])
def test_the_loss_of_the_trainer_is_what_it_was_after_it_was_probed(is_assigned, tmp_path):
    trainer = DCAOTrainer(gpt(), arguments(tmp_path), train_dataset=sentences(8))
    if is_assigned:
        trainer.compute_loss = partial(Trainer.compute_loss, trainer)
    before = vars(trainer).get("compute_loss")
    trainer.train()
    assert dcao_of(trainer.optimizer).last_estimate.s is not None
    assert vars(trainer).get("compute_loss") is before


def test_a_bare_trainer_is_told_what_to_use_instead(tmp_path):
    model = gpt()
    trainer = Trainer(model, arguments(tmp_path), train_dataset=sentences(8), optimizers=(DCAO(adamw(model)), None))
    with pytest.raises(ValueError, match="DCAOTrainer in place of Trainer"):
        trainer.train()


class Interrupted(TrainerCallback):
    """Stops the training between the backward pass of a step that is probed and the step."""

    def on_pre_optimizer_step(self, *_, **__) -> None:
        raise KeyboardInterrupt


def test_a_training_that_is_interrupted_leaves_no_pass_behind(tmp_path):
    trainer = DCAOTrainer(gpt(), arguments(tmp_path), train_dataset=sentences(8), callbacks=[Interrupted()])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert not dcao_of(trainer.optimizer).coming.is_known
    assert all(p._backward_hooks is None or not p._backward_hooks for p in trainer.model.parameters())


def test_an_engine_that_steps_by_itself_is_refused():
    accelerator = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)
    with pytest.raises(ValueError, match="DCAO must take the step itself, got Accelerate with DEEPSPEED"):
        refuse_engines(accelerator)
