"""DCAO on one page, in plain torch: the learning rate follows from the curvature along the optimizer's own step.

In the long run a gradient g moves the weights w by -d, where d = lr * g / P; AdamW's P is sqrt(v) + eps. One more
gradient, a little way along -d, shows how the loss curves in that direction (H d). That gives two numbers:

    s = d'Hd / g'd    Is the step stable? On a parabola s = 1 leads to the bottom, s = 2 as far up the other side.
    l = |d| / |w|     How large is the step beside the weights that it moves?

Both are proportional to lr, so one probe tells the largest lr with s <= 8 and l <= 0.1. (8 and not 2, because training
drifts to 2 and a little more whatever lr is; what does harm lies far above.) The rule has four phases:

    1. start where l = 0.01, whatever lr was given;     3. stay under the ceiling that the last three probes set;
    2. rise by 10 % a step until a probe objects;       4. decay to 0 over the last 30 to 80 % of the run.

The more noise, the nearer to a right angle are successive gradients, the longer is the decay, which averages the noise
away, and the less lr rises again: curvature is then not what limits it.
``DCAO(torch.optim.AdamW(...), total_steps=400)`` gives the same learning rates, and what real training needs around
them: dropout and BatchNorm, param groups, half precision, checkpoints, logs, and a guard. That skips garbage, goes back
after a blow-up, and watches the rise: if the loss turns up, it goes back, and lr stays under half of what it was there.
"""

import math
from collections import deque
from statistics import fmean, median

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

BETA = 0.9  # momentum


def train(model, loss_of, batches, *, lr, num_steps, adam=True):
    """Train ``model`` on ``loss_of(batch)`` with AdamW or SGD; yields the loss and the learning rate of each step."""
    params = list(model.parameters())
    w = parameters_to_vector(params).detach()
    m, v, previous_g = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w)
    ceiling, rising, probed_at, probes, cosines, first, agreements = math.inf, True, 0, deque(maxlen=3), [], [], []

    def loss_and_gradient(w, batch):
        vector_to_parameters(w, params)
        loss = loss_of(batch)
        return loss.item(), parameters_to_vector(torch.autograd.grad(loss, params))

    for step, batch in zip(range(num_steps), batches, strict=False):
        loss, g = loss_and_gradient(w, batch)
        m = BETA * m + (1 - BETA) * g
        if adam:
            v = 0.999 * v + 0.001 * g**2
            P, bias, weight_decay = (v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8, 1 - BETA ** (step + 1), 0.01
        else:  # SGD sums the gradients that Adam averages: its step is 1 / (1 - BETA) times as long.
            P, bias, weight_decay = 1 - BETA, 1, 0

        decay = min(1, (num_steps - step) / ((0.3 + 0.5 * noise(agreements)) * num_steps))
        if step > 0:  # rise, but not far without a probe; later slowly: in a valley that flattens any lr looks safe
            growth = (1.1 if step - probed_at <= 10 else 1) if rising else min(1.1, 1 + (1 - noise(agreements)) / step)
            lr = min(lr * growth, max(lr, ceiling))
            cosines.append(abs(g @ previous_g / g.norm() / previous_g.norm()).item())

        every = 5 if step < 60 else 20 if step < 500 else 30
        if (step - 500) % every == 0:
            d, size = lr * decay * g / P, (w * (g != 0)).norm()  # size: of the weights that move
            e = math.sqrt(torch.finfo(w.dtype).eps / 2 * max(1, size)) / d.norm()  # short, but above rounding
            Hd = (g - loss_and_gradient(w - e * d, batch)[1]) / e
            # Of the curvature that successive batches share, momentum averages most away.
            shared = (lr * decay * previous_g / P) @ Hd / (g @ d)
            s = d @ Hd / (g @ d) - shared + shared * (1 - BETA) / (1 + BETA)
            probe = (s / (lr * decay)).item(), (d.norm() / size / (lr * decay)).item()  # s and l per unit of lr
            if step == 0:  # rounded, so that not even the float noise of the given lr gets into the run
                probe = rounded(probe[0]), rounded(probe[1])
                lr = 0.01 / probe[1]
            if cosines and step < 0.2 * num_steps:  # before the longest decay begins
                (first if step < 0.05 * num_steps else agreements).append(fmean(cosines))
            probes.append(probe)
            unshared = noise(agreements or first, 0.1, 0.05)  # where nothing is shared s says less
            rising, largest_s = rising or (len(probes) == 2 and unshared > 0), 8 + 24 * unshared
            ceiling = largest_lr(probes, largest_s)
            limit = min(ceiling, largest_lr([probe], largest_s)) if rising else ceiling  # one objection ends the rise
            if lr > limit:
                lr, rising = max(limit, (0 if step == 0 else 0.5 if rising else 0.8) * lr), False
            probed_at, cosines = step, []  # of the steps since the last probe
        w, previous_g = w - lr * decay * (m / bias / P + weight_decay * w), g
        vector_to_parameters(w, params)
        yield loss, lr * decay


def largest_lr(probes, largest_s):  # with l <= 0.1
    curvatures, lengths = zip(*probes, strict=True)
    curvature, length = median(curvatures), math.sqrt(sum(each**2 for each in lengths) / len(lengths))
    return min(largest_s / curvature if curvature > 0 else math.inf, 0.1 / length)


def noise(agreements, least=0.25, most=0.15):  # 0 where gradients agree, 1 where they are nearly all noise
    return min(max((least - median(agreements)) / (least - most), 0), 1) if agreements else 0


def rounded(x):
    return math.ldexp(round(math.frexp(x)[0] * 32) / 32, math.frexp(x)[1])


if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(2048, 20)
    y = (x[:, 0] * x[:, 1] > 0).long()
    model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    rows = (torch.randint(0, 2048, (64,)) for _ in range(400))
    run = train(model, lambda i: torch.nn.functional.cross_entropy(model(x[i]), y[i]), rows, lr=10.0, num_steps=400)
    for step, (loss, lr) in enumerate(run):
        if step in (0, 10, 20, 40, 80, 160, 240, 320, 399):
            print(f"step {step:3d}  loss {loss:.3f}  lr {lr:.2g}")
