"""A multi-layer perceptron on fingerprint bits, with one output.

Axes: B batch, D bits, H hidden units.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num


class BitMLP(nn.Module):
    """bits_BxD (0 or 1) -> scores_B: logits, or values.

    hidden: width of each hidden layer (ReLU); without any the model is linear.

    The first kernel is stored as H x D. For M models on one batch (vmap over parameters) the first layer is then one
    product of (M H) x D and D x B. Stored as D x H, XLA (CPU, jax 0.10) would transpose it in every step.

    The first kernel starts with variance 1 / D, although only about 50 of 2048 bits are set: training hardly changes
    the kernel of a rare bit, so its start should be small. The last layer, and so the scores, start at 0.
    """

    hidden: tuple[int, ...] = (32,)

    @nn.compact
    def __call__(self, bits_BxD: Num[Array, "B D"]) -> Float[Array, " B"]:
        if not self.hidden:
            return self._on_bits(bits_BxD, 1, nn.initializers.zeros)[0]
        start = nn.initializers.lecun_normal(in_axis=1, out_axis=0)
        x_BxH = nn.relu(self._on_bits(bits_BxD, self.hidden[0], start)).T
        for width in self.hidden[1:]:
            x_BxH = nn.relu(nn.Dense(width, kernel_init=nn.initializers.he_normal())(x_BxH))
        return nn.Dense(1, kernel_init=nn.initializers.zeros)(x_BxH)[:, 0]

    def _on_bits(self, bits_BxD: Array, width: int, start: nn.initializers.Initializer) -> Float[Array, "H B"]:
        kernel_HxD = self.param("bits_kernel", start, (width, bits_BxD.shape[1]))
        bias_H = self.param("bits_bias", nn.initializers.zeros, (width,))
        return jnp.einsum("hd,bd->hb", kernel_HxD, bits_BxD.astype(kernel_HxD.dtype)) + bias_H[:, None]
