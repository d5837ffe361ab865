"""Which group each Gaussian belongs to: Gaussian Grouping's losses (Ye et al. 2024, arXiv 2312.00732, section 3.2).

M groups, C identity channels. Identities are rendered like colours and read by one linear layer; since compositing is
linear, the same layer reads the identity of a single Gaussian.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.fitting.config import IdentityConfig


def build_classifier(num_groups: int, config: IdentityConfig, generator: torch.Generator) -> nn.Linear:
    """The 1x1 classifier over the groups, drawn from the generator."""
    classifier = nn.Linear(config.channels, num_groups, device=generator.device)
    bound = config.channels**-0.5
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
    """Cross-entropy of the rendered identities over the labelled pixels.

    Args:
        rendered: Identities composited along each pixel's ray.
        columns: True group of each pixel; -1 = unlabelled, which counts nowhere.
        classifier: C to M.
        max_pixels: Above this number a random choice of pixels stands for all.
        generator: Draws it.
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

    It labels what no pixel shows: inside of objects and behind others.

    Args:
        means: Positions; no gradient flows to them.
        logits: Of the groups, per Gaussian.
        samples: Indices of the sampled Gaussians.
        num_neighbours: k, capped by N - 1; a Gaussian is not its own neighbour.
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
