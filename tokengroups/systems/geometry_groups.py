"""Groups by geometry alone: what any encoder's depth and cameras give without a network for groups.

For weights of a geometry encoder such as VGGT-1B. A Gaussian stands on every cell of pixels; planes that bound the room
and density clusters of positions make the groups (`tokengroups.clustering`), a baseline rather than objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.clustering import planes_hdbscan
from tokengroups.encoders import Encoder, load_encoder
from tokengroups.encoders.published import LICENCES
from tokengroups.encoders.vggt import load_official
from tokengroups.nearest import nearest
from tokengroups.postprocess import Draft, Step
from tokengroups.systems.base import SceneSystem
from tokengroups.systems.cell_gaussians import CellGaussiansConfig, cell_prediction, place_gaussians

_SAMPLES = 1000  # points that are clustered; the constants of the clustering were chosen for about as many


@dataclass(frozen=True)
class GeometryGroupsConfig:
    """Shape of the Gaussians."""

    gaussians: CellGaussiansConfig = field(default_factory=CellGaussiansConfig)


class GeometryGroups(SceneSystem):
    """The system; nothing of it is trained.

    Args:
        encoder: Any encoder.
        config: Shape of the Gaussians.
        steps: Post-processing of ``postprocess="default"``.
    """

    config_class = GeometryGroupsConfig
    adjustable: ClassVar[Mapping[str, str]] = {"max_gaussians": "gaussians.max_gaussians"}

    def __init__(self, encoder: Encoder, config: GeometryGroupsConfig, steps: Sequence[Step] = ()) -> None:
        super().__init__(encoder, steps)
        self.config, self.gaussians, self.encoder_source = config, config.gaussians, ""
        self.network = nn.Identity()

    def decode(self, draft: Draft) -> Draft:
        """Place a Gaussian on every cell, and cluster their positions."""
        cells = place_gaussians(draft, self.gaussians)
        owner = cluster_points(cells.gaussians.means)
        assignment = functional.one_hot(owner).to(cells.gaussians.means)
        tokens = assignment.new_zeros(assignment.shape[1], 0)
        return replace(draft, prediction=cell_prediction(cells, assignment, tokens))


def cluster_points(points: Float[Tensor, "N 3"]) -> Int64[Tensor, " N"]:
    """Group of every point by `planes_hdbscan` of evenly chosen ones, which the others join by nearness."""
    count = min(len(points), _SAMPLES)
    chosen = points[torch.linspace(0, len(points) - 1, count, device=points.device).round().long()].cpu()
    labels = torch.from_numpy(planes_hdbscan(chosen.numpy()))
    return labels[nearest(points.cpu(), chosen, 1)[1][:, 0]].to(points.device)


def load_published(source: str | Path) -> GeometryGroups:
    """The system of published VGGT-1B weights: a file, its folder or a hub id; errors as in `load_official`."""
    system = GeometryGroups(load_official(source), GeometryGroupsConfig())
    system.encoder_source, system.licence = str(source), LICENCES["VGGT"]
    return system.eval()  # pyright: ignore[reportReturnType] # returns itself


def on_encoder(source: str | Path) -> GeometryGroups:
    """The system of the weight folder of an encoder; errors as in `load_encoder`."""
    system = GeometryGroups(load_encoder(source), GeometryGroupsConfig())
    system.encoder_source = str(source)
    return system.eval()  # pyright: ignore[reportReturnType]
