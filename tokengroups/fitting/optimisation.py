"""Optimisation loop of a fit: one photo a step, its losses, and density control.

M groups, C identity channels. Identities are those of Gaussian Grouping (Ye et al. 2024, arXiv 2312.00732, section
3.2): they are rendered like colours and classified by one linear layer. Compositing is linear, so the same layer
classifies single Gaussians.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.fitting.density import explore, regulariser, relocate
from tokengroups.fitting.parameters import IDENTITY_CHANNELS, LAST_MEANS_RATE, RATES, Start, first_parameters
from tokengroups.losses.photometric import psnr, ssim
from tokengroups.render import render
from tokengroups.types import Gaussians, Views

_CLASSIFIER_RATE = 1e-2
_SSIM_WEIGHT = 0.2  # the rest is L1
_RELOCATION_STEPS = 50  # between two relocations
_RELOCATION_START, _RELOCATION_STOP = 0.1, 0.8  # shares of the steps
_NOISE = 80.0  # of the means at the first step's rate; 5e5 x 1.6e-4 in the paper's code
_MAX_PIXELS = 8192  # labelled ones that the identity loss of a step is computed on
_NEIGHBOUR_WEIGHT, _NEIGHBOUR_STEPS = 0.1, 5  # the neighbour loss is computed in every fifth step
_NEIGHBOURS, _NEIGHBOUR_SAMPLES = 5, 512


class Optimisation:
    """Parameters and classifier that are fitted to photos; lengths are in extents, `limit` Gaussians at most."""

    def __init__(
        self,
        views: Views,
        ids: Int64[Tensor, " M"],
        start: Start,
        steps: int,
        sh_degree: int,
        limit: int,
        generator: torch.Generator,
    ) -> None:
        self.views, self.steps, self.limit, self.generator = views, steps, limit, generator
        self.parameters = first_parameters(start, sh_degree, generator)
        self.classifier = build_classifier(max(len(ids), 1), generator)  # without masks an idle one
        found = torch.searchsorted(ids, views.group_ids)  # used where a pixel is labelled
        self.columns = torch.where(views.group_ids >= 0, found, -1)
        self.classifier_optimizer = torch.optim.Adam(self.classifier.parameters(), lr=_CLASSIFIER_RATE)
        self.order: list[int] = []

    def step(self, step: int) -> tuple[float, float]:
        """Fit one photo: losses, gradients, Adam, noise, and now and then density control; return loss and PSNR."""
        parameters, first_rate = self.parameters, RATES["means"]
        rate = first_rate * (LAST_MEANS_RATE / first_rate) ** (step / self.steps)
        parameters.set_means_rate(rate)
        view = self._next_view()
        gaussians, photo = parameters.gaussians(), self.views.images[view]
        picture = self._picture(gaussians, view)
        mask = None if self.views.mask is None else self.views.mask[view]
        quality = float(psnr(picture.detach().clamp(0, 1), photo, mask))
        if mask is not None:  # what does not count is equal and constant, so it moves nothing
            hidden = picture.detach()
            picture, photo = torch.where(mask, picture, hidden), torch.where(mask, photo, hidden)
        photometric = (1 - _SSIM_WEIGHT) * (picture - photo).abs().mean() + _SSIM_WEIGHT * (1 - ssim(picture, photo))
        loss = photometric + regulariser(gaussians.opacities, gaussians.scales) + self._identity_loss(view, step)
        loss.backward()
        for optimizer in (parameters.optimizer, self.classifier_optimizer):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        in_time = _RELOCATION_START <= (step + 1) / self.steps <= _RELOCATION_STOP
        if (step + 1) % _RELOCATION_STEPS == 0 and in_time:
            relocate(parameters, self.limit, self.generator)
        explore(parameters, _NOISE * rate / first_rate, self.generator)
        return float(loss.detach()), quality

    @torch.no_grad()
    def quality(self) -> tuple[float, ...]:
        """PSNR of every photo, in dB."""
        gaussians = self.parameters.gaussians()
        photos, masks = self.views.images, self.views.mask
        pictures = (self._picture(gaussians, view).clamp(0, 1) for view in range(len(photos)))
        return tuple(
            float(psnr(picture, photos[view], None if masks is None else masks[view]))
            for view, picture in enumerate(pictures)
        )

    def _picture(self, gaussians: Gaussians, view: int) -> Float[Tensor, "3 H W"]:
        cameras, at = self.views.cameras, slice(view, view + 1)
        out = render(gaussians, cameras.cam_from_world[at], cameras.intrinsics[at], cameras.size_hw)
        return out.colors[0].permute(2, 0, 1)

    def _identity_loss(self, view: int, step: int) -> Tensor:
        """Cross-entropy with the mask and the neighbour loss; the geometry is detached from both."""
        parameters, cameras, at = self.parameters, self.views.cameras, slice(view, view + 1)
        loss = parameters["identities"].sum() * 0
        if bool((self.columns[view] >= 0).any()):
            features = render(
                parameters.gaussians().detach(),
                cameras.cam_from_world[at],
                cameras.intrinsics[at],
                cameras.size_hw,
                anchor_ids=torch.arange(len(parameters), device=self.columns.device),
                anchor_features=parameters["identities"],
            ).features
            assert features is not None
            loss = loss + pixel_loss(features[0], self.columns[view], self.classifier, _MAX_PIXELS, self.generator)
        if step % _NEIGHBOUR_STEPS == 0:
            count = min(_NEIGHBOUR_SAMPLES, len(parameters))
            samples = torch.randint(len(parameters), (count,), generator=self.generator, device=self.columns.device)
            logits = self.classifier(parameters["identities"])
            loss = loss + _NEIGHBOUR_WEIGHT * neighbour_loss(parameters["means"], logits, samples, _NEIGHBOURS)
        return loss

    def _next_view(self) -> int:
        """Draw a photo; every one comes once before any comes again."""
        if not self.order:
            count, device = len(self.views.images), self.generator.device
            self.order = torch.randperm(count, generator=self.generator, device=device).tolist()
        return self.order.pop()


def build_classifier(num_groups: int, generator: torch.Generator) -> nn.Linear:
    """Draw the initial classifier from identity channels to groups."""
    classifier = nn.Linear(IDENTITY_CHANNELS, num_groups, device=generator.device)
    bound = IDENTITY_CHANNELS**-0.5
    with torch.no_grad():
        classifier.weight.uniform_(-bound, bound, generator=generator)
        classifier.bias.zero_()
    return classifier


def pixel_loss(
    rendered: Float[Tensor, "H W C"],
    columns: Int64[Tensor, "H W"],
    classifier: nn.Linear,
    max_pixels: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Cross-entropy of the rendered identities over the labelled pixels, or over a random choice of `max_pixels`.

    `columns` hold the true group of each pixel; -1 = unlabelled.
    """
    labelled = (columns.flatten() >= 0).nonzero()[:, 0]
    if len(labelled) == 0:
        return rendered.sum() * 0
    if len(labelled) > max_pixels:
        drawn = torch.randint(len(labelled), (max_pixels,), generator=generator, device=labelled.device)
        labelled = labelled[drawn]
    logits = classifier(rendered.flatten(0, 1)[labelled])
    return functional.cross_entropy(logits, columns.flatten()[labelled])


def neighbour_loss(
    means: Float[Tensor, "N 3"], logits: Float[Tensor, "N M"], samples: Int64[Tensor, " A"], num_neighbours: int
) -> Float[Tensor, ""]:
    """Mean KL divergence of sampled Gaussians' group probabilities from their nearest neighbours' (the paper's eq. 4).

    It labels Gaussians that no pixel shows, inside objects and behind others. No gradient flows to the means.
    `samples` are indices of Gaussians; the number of neighbours is at most N - 1.
    """
    num_neighbours = min(num_neighbours, len(means) - 1)
    if num_neighbours < 1:
        return logits.sum() * 0
    positions = means.detach()
    distances = torch.cdist(positions[samples], positions)
    distances[torch.arange(len(samples), device=samples.device), samples] = torch.inf
    nearest = distances.topk(num_neighbours, dim=1, largest=False).indices
    own, other = logits[samples].log_softmax(dim=-1), logits[nearest].log_softmax(dim=-1)
    return (own.exp()[:, None] * (own[:, None] - other)).sum(dim=-1).mean()
