"""Workloads on data that people download: MNIST, CIFAR, ImageNet, Penn Treebank, WikiText-2."""
