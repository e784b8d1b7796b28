"""Workloads on data that has to be downloaded: MNIST, CIFAR, ImageNet, Penn Treebank and WikiText-2."""
