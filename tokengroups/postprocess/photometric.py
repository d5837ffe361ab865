"""Gaussians sharpened on the photos: a few gradient steps on what the network decoded.

A decoder that saw thousands of rooms places blobs well and leaves them soft: whatever it cannot know of a new room, a
blur costs it least. The photos themselves know, and rendering is cheap. Only Gaussians change, so groups, anchors,
cameras and meaning stay the network's; with few steps new views gain as well, with many the photos are learned by
heart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.render import render
from tokengroups.types import Cameras, Gaussians

PHOTOS_PER_STEP = 2  # more steps gain more than more photos in each
MOST_PHOTOS = 4  # that the number of steps grows with
BETAS = (0.8, 0.95)  # shorter memories than Adam's own, for few steps
EPSILON = 1e-8
LOGIT_LIMIT = 1e-5  # opacities nearer to 0 or 1 could never move


@dataclass(frozen=True)
class SharpeningRates:
    """Adam's rates: about what a value changes by in a step."""

    means: float = 0.1  # in the Gaussian's mean standard deviation
    quats: float = 0.02
    scales: float = 0.02  # of their logarithms
    opacities: float = 0.05  # of their logits
    sh: float = 0.003  # low: colours of what is half hidden would make up for what hides it


def sharpen(
    gaussians: Gaussians,
    images: Float[Tensor, "V 3 H W"],
    cameras: Cameras,
    steps: int,
    rates: SharpeningRates = SharpeningRates(),  # noqa: B008 (frozen)
) -> Gaussians:
    """Fit decoded Gaussians to the photos they were decoded from: `steps` of Adam on the squared error.

    Works under `torch.no_grad`. A step renders up to two photos, in turn, so that its price does not grow with them.

    Args:
        gaussians: Of one scene.
        images: Photos in [0, 1].
        cameras: Of the photos, in the world of the Gaussians.
        steps: Number of steps; 0 leaves everything as it is.
        rates: Step sizes.

    Raises:
        ValueError: If the number of steps is negative.
    """
    if steps < 0:
        raise ValueError(f"the number of sharpening steps must not be negative, got {steps}")
    if steps == 0:
        return gaussians
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        # Copies: tensors made in inference mode could not be saved for the backward pass.
        start, cameras = gaussians.detach().map(torch.clone), cameras.detach().map(torch.clone)
        images = images.clone()
        size, logits = start.scales.mean(dim=-1, keepdim=True), start.opacities.logit(LOGIT_LIMIT)
        changes = {name: torch.zeros_like(getattr(start, name), requires_grad=True) for name in asdict(rates)}
        adam = _Adam(list(changes.values()), list(asdict(rates).values()))

        def current() -> Gaussians:
            return Gaussians(
                means=start.means + size * changes["means"],
                quats=start.quats + changes["quats"],
                scales=start.scales * changes["scales"].exp(),
                opacities=(logits + changes["opacities"]).sigmoid(),
                sh=start.sh + changes["sh"],
            )

        for step in range(steps):
            shown = sorted({(step * PHOTOS_PER_STEP + i) % len(images) for i in range(PHOTOS_PER_STEP)})
            poses, intrinsics = cameras.cam_from_world[shown], cameras.intrinsics[shown]
            pictures = render(current(), poses, intrinsics, cameras.size_hw).colors.movedim(-1, 1)
            adam.step((pictures - images[shown]).square().mean())
        return current().detach()


def steps_for(steps: int, num_photos: int) -> int:
    """How many steps photos are worth that are `steps` for two: half for one, which is soon learned by heart."""
    return steps * min(num_photos, MOST_PHOTOS) // PHOTOS_PER_STEP


class _Adam:
    """Adam (Kingma and Ba, 2015). `torch.optim`'s imports a compiler first, which takes longer than all steps."""

    def __init__(self, parameters: list[Tensor], rates: list[float]) -> None:
        self.parameters, self.rates, self.steps = parameters, rates, 0
        self.means, self.squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))

    def step(self, loss: Float[Tensor, ""]) -> None:
        """Move all parameters against the gradient of the loss."""
        self.steps += 1
        gradients = torch.autograd.grad(loss, self.parameters)
        first, second = (1 - beta**self.steps for beta in BETAS)
        with torch.no_grad():
            for parameter, gradient, mean, square, rate in zip(
                self.parameters, gradients, self.means, self.squares, self.rates, strict=True
            ):
                mean.lerp_(gradient, 1 - BETAS[0])
                square.lerp_(gradient.square(), 1 - BETAS[1])
                parameter -= rate / first * mean / ((square / second).sqrt() + EPSILON)
