"""CIFAR-10 with a long tail: every rebalancing strategy on the same pictures and budget."""
