"""Groups smoothed over neighbouring anchors of like colour: mean field in a fully connected random field.

The network decides anchor by anchor, and single anchors stray. The model is that of Kraehenbuehl and Koltun (Efficient
Inference in Fully Connected CRFs with Gaussian Edge Potentials, 2011), on anchors instead of pixels: one Gaussian
kernel over position and colour, and every anchor's neighbours have one say together, however dense the anchors are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class SmoothingSettings:
    """The kernel; results hardly change within half and twice these."""

    distance: float = (
        0.05  # standard deviation in 3D, in the mean distance of the anchors from the first camera
    )
    color: float = 0.15  # and of RGB in [0, 1]
    strength: float = 3.0  # of all neighbours together, against the logarithm of an anchor's own probability
    solitude: float = 0.5  # kernel mass at which neighbours have half their say


def smooth_assignment(
    assignment: Float[Tensor, "K L"],
    anchors: Float[Tensor, "K 3"],
    colors: Float[Tensor, "K 3"],
    steps: int,
    settings: SmoothingSettings = SmoothingSettings(),  # noqa: B008 (frozen)
) -> Float[Tensor, "K L"]:
    """Mean-field steps on the probabilities of anchors over groups.

    Args:
        assignment: Rows sum to 1.
        anchors: Positions in the world of the first camera.
        colors: Of the anchors, in [0, 1].
        steps: Number of steps; 0 leaves everything as it is.
        settings: The kernel.

    Raises:
        ValueError: If the number of steps is negative.
    """
    if steps < 0:
        raise ValueError(f"the number of smoothing steps must not be negative, got {steps}")
    if steps == 0:
        return assignment
    distances = torch.cdist(anchors, anchors) / (settings.distance * anchors.norm(dim=-1).mean())
    contrasts = torch.cdist(colors, colors) / settings.color
    kernel = (-0.5 * (distances.square() + contrasts.square())).exp().fill_diagonal_(0)
    kernel = settings.strength * kernel / (kernel.sum(dim=1, keepdim=True) + settings.solitude)
    own = assignment.clamp_min(MIN_PROBABILITY).log()
    for _ in range(steps):
        assignment = (own + kernel @ assignment).softmax(dim=-1)
    return assignment
