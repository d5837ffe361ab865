"""The optimisation itself: one photo a step, its losses, and density control."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.fitting.config import FitConfig
from tokengroups.fitting.density import explore, regulariser, relocate
from tokengroups.fitting.identity import neighbour_loss, pixel_loss
from tokengroups.fitting.parameters import Parameters, Start
from tokengroups.gaussians import logit_from_opacity
from tokengroups.losses.photometric import psnr, ssim
from tokengroups.render import render
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Views

_FIRST_OPACITY = 0.5


class Optimisation:
    """Fits parameters and a classifier to photos, in the units of the parameters; `limit` Gaussians at most."""

    def __init__(
        self,
        views: Views,
        ids: Int64[Tensor, " M"],
        parameters: Parameters,
        classifier: nn.Linear,
        config: FitConfig,
        limit: int,
        generator: torch.Generator,
    ) -> None:
        self.views, self.config, self.limit, self.generator = views, config, limit, generator
        self.parameters, self.classifier = parameters, classifier
        found = torch.searchsorted(ids, views.group_ids.clamp(min=ids[0]))
        self.columns = torch.where(views.group_ids >= 0, found, -1)
        self.classifier_optimizer = torch.optim.Adam(classifier.parameters(), lr=config.rates.classifier)
        self.order: list[int] = []

    def step(self, step: int) -> tuple[float, float]:
        """One photo: losses, gradients, Adam, noise, and now and then density control; returns loss and PSNR."""
        config, parameters = self.config, self.parameters
        rate = config.rates.means * (config.rates.means_last / config.rates.means) ** (step / config.steps)
        parameters.set_position_rate(rate)
        view = self._next_view()
        photometric, quality = self._photometric(view)
        loss = photometric + self._identity(view, step)
        loss.backward()
        for optimizer in (parameters.optimizer, self.classifier_optimizer):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        done, density = (step + 1) / config.steps, config.density
        if (step + 1) % density.every == 0 and density.start <= done <= density.stop:
            relocate(parameters, density, self.limit, self.generator)
        explore(parameters, density.noise * rate / config.rates.means, self.generator)
        return float(loss.detach()), quality

    @torch.no_grad()
    def quality(self) -> tuple[float, ...]:
        """PSNR of every photo, in dB."""
        gaussians, cameras, values = self.parameters.gaussians(), self.views.cameras, []
        listed = zip(self.views.images, cameras.cam_from_world, cameras.intrinsics, strict=True)
        for photo, pose, pinhole in listed:
            picture = render(gaussians, pose[None], pinhole[None], cameras.size_hw).colors[0].permute(2, 0, 1)
            values.append(float(psnr(picture.clamp(0, 1), photo)))
        return tuple(values)

    def _photometric(self, view: int) -> tuple[Tensor, float]:
        gaussians, photo = self.parameters.gaussians(), self.views.images[view]
        cameras = self.views.cameras
        pose, pinhole = cameras.cam_from_world[view : view + 1], cameras.intrinsics[view : view + 1]
        picture = render(gaussians, pose, pinhole, cameras.size_hw).colors[0].permute(2, 0, 1)
        weight = self.config.ssim_weight
        loss = (1 - weight) * (picture - photo).abs().mean() + weight * (1 - ssim(picture, photo))
        quality = float(psnr(picture.detach().clamp(0, 1), photo))
        return loss + regulariser(gaussians.opacities, gaussians.scales, self.config.density), quality

    def _identity(self, view: int, step: int) -> Tensor:
        """Masks teach identities, never the geometry: it is detached."""
        config, parameters = self.config.identity, self.parameters
        loss = parameters["identities"].sum() * 0
        if bool((self.columns[view] >= 0).any()):
            cameras = self.views.cameras
            features = render(
                parameters.gaussians().detach(),
                cameras.cam_from_world[view : view + 1],
                cameras.intrinsics[view : view + 1],
                cameras.size_hw,
                anchor_ids=torch.arange(len(parameters), device=self.columns.device),
                anchor_features=parameters["identities"],
            ).features
            assert features is not None
            arguments = (self.columns[view], self.classifier, config.max_pixels, self.generator)
            loss = loss + config.weight * pixel_loss(features[0], *arguments)
        if config.neighbour_weight > 0 and step % config.neighbour_every == 0:
            count = min(config.samples, len(parameters))
            samples = torch.randint(len(parameters), (count,), generator=self.generator, device=self.columns.device)
            logits = self.classifier(parameters["identities"])
            near = neighbour_loss(parameters["means"], logits, samples, config.neighbours)
            loss = loss + config.neighbour_weight * near
        return loss

    def _next_view(self) -> int:
        """Every photo once before any comes again, in random order."""
        if not self.order:
            device = self.generator.device
            count = len(self.views.images)
            self.order = torch.randperm(count, generator=self.generator, device=device).tolist()
        return self.order.pop()


def first_parameters(start: Start, config: FitConfig, generator: torch.Generator) -> Parameters:
    """Round, half transparent Gaussians in the colours of the points, with small random identities."""
    count = len(start.means)
    sh = start.means.new_zeros(count, (config.sh_degree + 1) ** 2, 3)
    sh[:, 0] = (start.colors - 0.5) / SH_C0
    opacities = start.means.new_full((count,), _FIRST_OPACITY)
    identities = torch.randn(count, config.identity.channels, generator=generator, device=sh.device)
    leaves = {
        "means": start.means,
        "quats": functional.pad(start.means.new_ones(count, 1), (0, 3)),
        "log_scales": start.scales.log()[:, None].expand(count, 3),
        "logits": logit_from_opacity(opacities),
        "sh": sh,
        "identities": 0.1 * identities,
    }
    return Parameters(leaves, config.rates)
