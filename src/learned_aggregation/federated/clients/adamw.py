"""`adamw`: DiLoCo's inner optimizer."""

import optax

EPS_ROOT = 1e-16
"""Added under the root of the second moment: where gradients are exactly 0 the root has a derivative then."""


def adamw(learning_rate: float) -> optax.GradientTransformation:
    """AdamW with betas 0.9 and 0.95 and weight decay 0.1.

    W_k <- W_k - learning_rate*(m'/(sqrt(v' + 1e-16) + 1e-8) + 0.1*W_k), m' and v' with bias correction.

    Betas and decay are those of OpenDiLoCo's training script, the open replication of DiLoCo.

    References:
      Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101,
      Algorithm 2.
      Douillard et al., 2023, arXiv:2311.08105; Jaghouar et al., "OpenDiLoCo", 2024, arXiv:2407.07852.
    """
    return optax.adamw(learning_rate, b1=0.9, b2=0.95, weight_decay=0.1, eps_root=EPS_ROOT)
