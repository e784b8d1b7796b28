"""Small problems unlike those that the default was developed on, for the study ``transfer``.

They differ in what is trained (attention, convolutions, recurrence, embeddings, factors, a few added matrices), from
what (random, zero and pretrained weights), by what loss (noise in it, derivatives in it, sums), on how much data and
in batches of 7 to 333. Nothing was tuned on them. All data comes with Python and with packages that the lab needs.

Each has one set of held-out examples, which is both its validation and its test split: small data sets have no
examples to spare. The only choice that is ever made by it is the best lr of a sweep, which favours the sweep.
"""
