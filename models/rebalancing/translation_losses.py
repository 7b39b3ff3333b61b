"""The losses of joint generation and classification.

A is the majority class and B the minority; G_AB translates A to B, D_A judges whether a picture is
a real one of A, and z is the classifier. L1 norms are means over pixels, as CycleGAN has them.

Source: Sahoo et al. 2020, arXiv:2008.05524, in the forms of METHODS section 13 (the slides' second
list of losses has errors there corrected).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import ShapeError

#: ``least_squares`` is what CycleGAN trains with, ``log`` what the paper writes.
Form = Literal["least_squares", "log"]


def as_real(scores: Tensor, form: Form) -> Tensor:
    """Mean loss of scores that should say "real": -ln D, or (D - 1)^2."""
    if form == "log":
        return -F.logsigmoid(scores).mean()
    return (scores - 1).square().mean()


def as_translated(scores: Tensor, form: Form) -> Tensor:
    """Mean loss of scores that should say "translated": -ln(1 - D), or D^2."""
    if form == "log":
        return -F.logsigmoid(-scores).mean()
    return scores.square().mean()


def discriminator_loss(real: Tensor, translated: Tensor, form: Form) -> Tensor:
    """L_D: log form -E ln D(real) - E ln(1 - D(translated)).

    Args:
        real: scores of real pictures, of any shape; the logit of D in the log form, D itself in
            least squares.
        translated: scores of translated pictures, which no gradient may reach.
        form: ``log`` or ``least_squares``.
    """
    return as_real(real, form) + as_translated(translated, form)


def generator_loss(translated: Tensor, form: Form) -> Tensor:
    """L_G of one generator, non-saturating: -E ln D(translated) in the log form."""
    return as_real(translated, form)


def cycle_loss(images: Tensor, back: Tensor) -> Tensor:
    """L_cyc: E ||G_AB(G_BA(b)) - b||_1, for pictures and what came back of them."""
    return F.l1_loss(back, images)


def identity_loss(a: Tensor, a_as_a: Tensor, b: Tensor, b_as_b: Tensor) -> Tensor:
    """L_ide: E ||G_AB(b) - b||_1 + E ||G_BA(a) - a||_1."""
    return F.l1_loss(b_as_b, b) + F.l1_loss(a_as_a, a)


def log_odds(logits: Tensor, label: int) -> Tensor:
    """Log-odds of one class against all others: ln p - ln(1 - p), exact where p is 0 or 1.

    Args:
        logits: (N, K), unnormalised.
        label: index of the class.
    Returns: (N,). Cross-entropy of the class is -logsigmoid of it, for any K.

    Raises: ShapeError: for less than two classes.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ShapeError(f"found logits {tuple(logits.shape)}; expected (N, K) with K >= 2")
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(dim=1)


def class_term(logits: Tensor, label: int) -> Tensor:
    """-E ln p(label): what one group of pictures, real or translated, adds to the class loss."""
    return -F.logsigmoid(log_odds(logits, label)).mean()


def class_loss(real: Tensor, translated: Tensor, label: int) -> Tensor:
    """One side of the classifier's loss: L_cls^B of the minority, L_cls^A of the majority.

    L_cls^B = -E_b ln z(b) - E_a ln z(G_AB(a)), with z the probability of the minority;
    L_cls^A = -E_a ln(1 - z(a)) - E_b ln(1 - z(G_BA(b))), where 1 - z is the majority's.

    Args:
        real: (N, K) logits of real pictures of the class.
        translated: (M, K) logits of pictures translated into the class.
        label: index of the class.
    """
    return class_term(real, label) + class_term(translated, label)


def joint_class_loss(minority: Tensor, majority: Tensor, gamma: float) -> Tensor:
    """L_cls = L_cls^B + L_cls^A / gamma; gamma >= 1 makes the majority count less."""
    return minority + majority / gamma
