"""Fitting Gaussians to photos: a few gradient steps on the squared error of renderings."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.render import render
from tokengroups.types import Cameras, Gaussians

PHOTOS_PER_STEP = 2  # more steps gain more than more photos in each
MAX_PHOTOS = 8  # the number of steps grows up to so many photos
BETAS = (0.8, 0.95)  # shorter memories than Adam's own, for few steps
EPSILON = 1e-8
LOGIT_LIMIT = 1e-5  # opacities nearer to 0 or 1 could never move


@dataclass(frozen=True)
class LearningRates:
    """Adam's learning rates: about the change of a value in a step."""

    means: float = 0.1  # in the Gaussian's mean standard deviation
    quats: float = 0.02
    scales: float = 0.02  # of their logarithms
    opacities: float = 0.05  # of their logits
    sh: float = 0.003  # low: colours of half-hidden Gaussians would compensate for what hides them


def steps_for(steps: int, num_photos: int) -> int:
    """Number of steps for so many photos, from that for two."""
    return steps * min(num_photos, MAX_PHOTOS) // PHOTOS_PER_STEP


def refine_gaussians(
    gaussians: Gaussians,
    images: Float[Tensor, "V 3 H W"],
    cameras: Cameras,
    steps: int,
    rates: LearningRates = LearningRates(),  # noqa: B008 (frozen)
    mask: Bool[Tensor, "V H W"] | None = None,
) -> Gaussians:
    """Fit Gaussians to photos: `steps` of Adam on the squared error.

    Works under `torch.no_grad`. A step renders up to two photos, in turn, so that its cost does not grow with them.

    Args:
        gaussians: Gaussians of one scene.
        images: Photos in [0, 1].
        cameras: Cameras of the photos, in the world of the Gaussians.
        steps: Number of steps; 0 leaves everything as it is.
        rates: Learning rates.
        mask: Pixels that count; None = all.
    """
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
            errors = (pictures - images[shown]).square()
            adam.step(errors.mean() if mask is None else (errors * mask[shown][:, None]).mean())
        return current().detach()


class _Adam:
    """Adam (Kingma and Ba, 2015). The first step of `torch.optim.Adam` takes 1.0 s for imports, more than all steps."""

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
