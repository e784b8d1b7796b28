"""Complex parameters, as in Fourier neural operators: torch trains them as pairs of reals, DCAO refuses them.

It refuses even to pass them through under a policy that changes nothing.
"""

import sys

import torch
from torch import nn

from dcao import DCAO, policies


def main():
    torch.manual_seed(0)
    w, refusals = nn.Parameter(torch.randn(8, 8, dtype=torch.cfloat)), []
    for options in ({}, {"policy": policies.Fixed()}):
        try:
            optimizer = DCAO(torch.optim.Adam([w], lr=1e-3), **options)
            for _ in range(5):
                optimizer.minimize(lambda: (w.abs() ** 2).mean())
        except TypeError as error:
            refusals.append(str(error))
    print(f"refused {len(refusals)} of 2 (default, policies.Fixed()): {refusals[:1]}")
    return bool(refusals)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
