"""Groups of a fit without masks: clusters of the Gaussians' positions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.clustering import planes_hdbscan
from tokengroups.nearest import nearest
from tokengroups.types import Gaussians

_SAMPLES = 1000  # Gaussians that are clustered; the others join the nearest one


def cluster_groups(gaussians: Gaussians, seed: int) -> tuple[Float[Tensor, "N L"], Int64[Tensor, " L"]]:
    """Group Gaussians by `planes_hdbscan` of some of them, drawn by opacity; the seed makes it repeatable.

    Args:
        gaussians: On the CPU, in the world of the first camera.
        seed: Of the draw.

    Returns:
        Assignment of one group to each Gaussian, and the ids of the groups: 1, 2, ...
    """
    generator = torch.Generator().manual_seed(seed)
    count = min(len(gaussians.means), _SAMPLES)
    chosen = torch.multinomial(gaussians.opacities, count, generator=generator).sort().values
    labels = torch.from_numpy(planes_hdbscan(gaussians.means[chosen].numpy()))
    owner = labels[nearest(gaussians.means, gaussians.means[chosen], 1)[1][:, 0]]
    groups, columns = owner.unique(return_inverse=True)
    return torch.nn.functional.one_hot(columns, len(groups)).to(gaussians.means), groups + 1
