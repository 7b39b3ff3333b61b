"""Errors of the machine learning.

ModelError
├── ShapeError            arrays that do not fit together, or hold what they must not
├── ConfigError           a setting that cannot be
├── NotEnoughLabels       the labels at hand do not suffice for this fit
├── NoTailClass           mining was asked for, but no class is rare
├── OutOfTime             what was asked for does not fit into its time limit
├── Diverged              a training whose loss is not finite any more
├── WeightsError          weights that cannot be had, read or put into the network
├── ImageError            bytes that are no image, or an image too large
│   └── DamagedImage      an image that is cut off or damaged
└── CorruptVersion        a stored model whose files do not match its card

Each message says what was found, what was expected and what to do.
"""

from __future__ import annotations


class ModelError(Exception):
    """Anything that goes wrong in ``models`` for a reason that a person can mend."""


class ShapeError(ModelError):
    """Arrays that do not fit together, or hold values they must not (NaN, a class out of range)."""


class ConfigError(ModelError):
    """A setting that cannot be, or a name that no table holds."""


class NotEnoughLabels(ModelError):  # noqa: N818 - a state of the project, not a fault
    """The labels at hand do not suffice for this fit."""


class NoTailClass(ModelError):  # noqa: N818 - a state of the project, not a fault
    """Mining was asked for, but no class is rare."""


class OutOfTime(ModelError):  # noqa: N818 - a state of the project, not a fault
    """What was asked for does not fit into its time limit."""


class Diverged(ModelError):  # noqa: N818 - names what happened
    """A training whose loss is not finite any more; its step size is too large."""


class WeightsError(ModelError):
    """Weights that cannot be downloaded, read, or put into the network."""


class ImageError(ModelError):
    """Bytes that are no image, or an image with too many pixels."""


class DamagedImage(ImageError):  # noqa: N818 - names what was found
    """An image whose file is cut off or damaged: another copy of it may be whole."""


class CorruptVersion(ModelError):  # noqa: N818 - names what was found
    """A stored model whose files are missing or do not match its card."""
