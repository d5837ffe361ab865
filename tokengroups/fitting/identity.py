"""Gaussian Grouping's identities and losses (Ye et al. 2024, arXiv 2312.00732, section 3.2).

M groups, C identity channels. Identities are rendered like colours and classified by one linear layer. Compositing is
linear, so the same layer classifies single Gaussians.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.fitting.parameters import IDENTITY_CHANNELS


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
