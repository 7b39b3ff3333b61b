"""SIFAR-10: skewed CIFAR-10, on which mining is measured (docs/methods.md, section 15)."""
