"""Eleven tasks unlike those that the default was developed on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import digits, english, licences
from networks import GPT, VAE, Denoiser, Factors, Mixer, Reverser, Sine, ViT, mlp
from problems import Spec, Task, classification, regression, with_replacement
from records import cached


def logreg_zero(seed: int) -> Task:
    """A linear probe: logistic regression from weights that are 0."""
    model = nn.Linear(64, 10)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return classification(model, seed, 64, *digits())


def language(model: nn.Module, seed: int, text: Tensor, size: int) -> Task:
    """Predict the next character in windows of 64; the last tenth of the text is held out."""
    cut, span = int(0.9 * len(text)), torch.arange(65)

    def windows(part: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return part[torch.randint(0, len(part) - 65, (count,), generator=generator)[:, None] + span]

    generator = torch.Generator().manual_seed(seed + 1)
    held_out = windows(text[cut:], 96, torch.Generator().manual_seed(5))

    def loss_of(m: nn.Module, z: Tensor) -> Tensor:
        return F.cross_entropy(m(z[:, :-1]).flatten(0, 1), z[:, 1:].flatten())

    return Task(
        model,
        lambda: windows(text[:cut], size, generator),
        lambda z: loss_of(model, z),
        lambda m: {"loss": loss_of(m, held_out).item()},
    )


def pretrained_gpt() -> dict[str, Tensor]:
    """Weights of a GPT that knows Python's documentation; trained once."""

    def make() -> dict[str, Tensor]:
        torch.manual_seed(123)
        task = language(GPT(), 123, english(), 16)
        optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3, foreach=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, 1500, pct_start=0.05)
        for _ in range(1500):
            optimizer.zero_grad()
            task.loss(task.batch()).backward()
            optimizer.step()
            schedule.step()
        print("pretrained GPT:", task.evaluate(task.model))
        return task.model.state_dict()

    return cached("gpt", make)


def ft_gpt(seed: int) -> Task:
    """A GPT that knows Python's documentation learns licences."""
    model = GPT()
    model.load_state_dict(pretrained_gpt())
    return language(model, seed, licences(), 16)


def vae(seed: int) -> Task:
    """Convolutional VAE, ELBO summed over pixels as everybody writes it."""
    x, _, xt, _ = digits()
    model, fixed = VAE(), torch.randn(len(xt), 8, generator=torch.Generator().manual_seed(5))
    return Task(
        model,
        with_replacement(seed, 64, x),
        lambda b: model.elbo(b[0], torch.randn(len(b[0]), 8)),
        lambda m: {"elbo": m.elbo(xt, fixed).item()},
    )


def siren(seed: int) -> Task:
    """A SIREN learns a photograph's 64 by 64 patch; the metric is its error on all pixels."""
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("china.jpg")[100:228:2, 200:328:2].mean(-1)
    patch = torch.tensor(grey / 127.5 - 1, dtype=torch.float32)
    axis = torch.linspace(-1, 1, 64)
    x, y = torch.cartesian_prod(axis, axis), patch.flatten()
    model = nn.Sequential(Sine(2, 64, first=True), Sine(64, 64), nn.Linear(64, 1))
    return regression(model, seed, 512, x, y, x, y)


def mf(seed: int) -> Task:
    """A recommender: 500 users, 300 items, 15000 ratings from 1 to 5."""
    g = torch.Generator().manual_seed(0)
    users, items = 0.55 * torch.randn(500, 4, generator=g), 0.55 * torch.randn(300, 4, generator=g)
    offsets = 0.4 * torch.randn(500, generator=g), 0.4 * torch.randn(300, generator=g)
    pairs = torch.stack([torch.randint(0, n, (15000,), generator=g) for n in (500, 300)], 1)
    u, i = pairs[:, 0], pairs[:, 1]
    score = 3.5 + offsets[0][u] + offsets[1][i] + (users[u] * items[i]).sum(1) + 0.5 * torch.randn(15000, generator=g)
    y = score.round().clamp(1, 5)
    model, seen, new = Factors(500, 300, y[:12000].mean().item()), slice(12000), slice(12000, None)
    return regression(model, seed, 256, pairs[seen], y[seen], pairs[new], y[new])


def ddpm(seed: int) -> Task:
    """Denoising diffusion on two moons; the metric is the error of the predicted noise on held-out points."""
    from sklearn.datasets import make_moons

    x = torch.tensor(make_moons(6000, noise=0.05, random_state=0)[0], dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    kept = torch.cumprod(1 - torch.linspace(1e-3, 0.1, 100), 0)
    model, g = Denoiser(), torch.Generator().manual_seed(5)
    held_out = x[5000:].repeat(4, 1)
    fixed = torch.randint(0, 100, (4000,), generator=g), torch.randn(4000, 2, generator=g)

    def error(m: nn.Module, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        a = kept[t][:, None]
        return F.mse_loss(m(a.sqrt() * x0 + (1 - a).sqrt() * noise, t), noise)

    return Task(
        model,
        with_replacement(seed, 128, x[:5000]),
        lambda b: error(model, b[0], torch.randint(0, 100, (128,)), torch.randn(128, 2)),
        lambda m: {"eps_mse": error(m, held_out, *fixed).item()},
    )


def deep_mlp(seed: int) -> Task:
    """Twelve layers without normalisation, Kaiming initialisation."""
    model = mlp(64, *[64] * 11, 10)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return classification(model, seed, 64, *digits())


def mixer_b7(seed: int) -> Task:
    """A Mixer at batch 7: nearly all noise."""
    return classification(Mixer(), seed, 7, *digits())


def vit_b333(seed: int) -> Task:
    """A ViT at batch 333."""
    return classification(ViT(), seed, 333, *digits())


def noisy300(seed: int) -> Task:
    """300 digits, classes from 1 : 0.1, a fifth of the labels drawn anew; tested on clean ones."""
    x, y, xt, yt = digits()
    g = torch.Generator().manual_seed(7)
    index = torch.multinomial(0.775 ** y.float(), 300, generator=g)
    x, y = x[index], y[index].clone()
    wrong = torch.rand(300, generator=g) < 0.2
    y[wrong] = torch.randint(0, 10, (int(wrong.sum()),), generator=g)
    return classification(mlp(64, 128, 128, 10), seed, 32, x, y, xt, yt)


def seq2seq(seed: int) -> Task:
    """An encoder and decoder learn to reverse eight symbols; the metric is tokens right on new ones."""
    g, model = torch.Generator().manual_seed(seed + 1), Reverser()

    def draw(count: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        source = torch.randint(0, 10, (count, 8), generator=g)
        target = source.flip(1)
        return source, torch.cat([torch.full((count, 1), 10), target[:, :-1]], 1), target

    held_out = draw(256, torch.Generator().manual_seed(5))

    def evaluate(m: nn.Module) -> dict[str, float]:
        out = m(*held_out[:2])
        return {
            "acc": 100 * (out.argmax(-1) == held_out[2]).float().mean().item(),
            "loss": F.cross_entropy(out.flatten(0, 1), held_out[2].flatten()).item(),
        }

    return Task(
        model, lambda: draw(32, g), lambda b: F.cross_entropy(model(*b[:2]).flatten(0, 1), b[2].flatten()), evaluate
    )


TASKS = {
    "logreg_zero": Spec(logreg_zero, 600, "acc"),
    "ft_gpt": Spec(ft_gpt, 200, "loss"),
    "vae": Spec(vae, 500, "loss"),
    "siren": Spec(siren, 600, "loss"),
    "mf": Spec(mf, 600, "loss"),
    "ddpm": Spec(ddpm, 800, "loss"),
    "deep_mlp": Spec(deep_mlp, 600, "acc"),
    "mixer_b7": Spec(mixer_b7, 700, "acc"),
    "vit_b333": Spec(vit_b333, 200, "acc"),
    "noisy300": Spec(noisy300, 600, "acc"),
    "seq2seq": Spec(seq2seq, 400, "acc"),
}
