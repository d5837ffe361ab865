"""Masks of photos as masks of a scene's points: visibility, votes of the views, votes inside superpoints.

N points, V views, M masks, of which b are in a block. Every mask gets an answer of its own, so masks of points may
overlap like those of photos. The rules are those of SegVGGT's evaluation as far as they are known: true depth and
poses, a point is visible where it is nearer than 0.1 m to a depth reading, and superpoints take the majority of their
points. How visible views are combined is not published, hence `RULES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from tokengroups.geometry import project, transform_points
from tokengroups.types import TensorFields

VISIBILITY_M = 0.1
Rule = Literal["any", "majority", "mean"]
RULES: tuple[Rule, ...] = ("any", "majority", "mean")


@dataclass(frozen=True)
class Sight(TensorFields):
    """The points that one view shows, each at most once."""

    points: Int64[Tensor, " n"]
    places: Float[Tensor, "n 2"]  # x over the width and y over the height of the image, in [0, 1)


def visible_points(
    points: Float[Tensor, "N 3"],
    cam_from_world: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    depth: Float[Tensor, "h w"],
    tolerance: float = VISIBILITY_M,
) -> Sight:
    """Points in front of the camera that are nearer than the tolerance to the depth reading of their pixel.

    Args:
        points: In the world.
        cam_from_world: Of the view.
        intrinsics: In pixels of the depth map.
        depth: z; 0 = no reading.
        tolerance: In the unit of the depth; an error of just this much is too large.

    Example:
        >>> import torch
        >>> from tokengroups.evaluation.vertex_masks import visible_points
        >>> pinhole = torch.tensor([[2.0, 0.0, 2.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
        >>> points = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 2.5], [9.0, 0.0, 2.0]])  # the others: behind, outside
        >>> sight = visible_points(points, torch.eye(4), pinhole, torch.full((2, 4), 2.0))
        >>> sight.points, sight.places
        (tensor([0]), tensor([[0.5000, 0.5000]]))
    """
    height, width = depth.shape
    pixels, z = project(transform_points(cam_from_world, points), intrinsics)
    size = pixels.new_tensor([width, height])
    inside = ((z > 0) & (pixels >= 0).all(dim=1) & (pixels < size).all(dim=1)).nonzero()[:, 0]
    columns, rows = pixels[inside].long().unbind(dim=1)
    readings = depth[rows, columns].to(z)
    chosen = inside[(readings > 0) & ((z[inside] - readings).abs() < tolerance)]
    return Sight(chosen, pixels[chosen] / size)


@runtime_checkable
class Masks(Protocol):
    """Masks of photos that can be looked up at places of a photo."""

    @property
    def threshold(self) -> float: ...  # noqa: D102  # a probability above it is inside
    def __len__(self) -> int: ...  # noqa: D105

    def probabilities(self, view: int, places: Float[Tensor, "n 2"], chosen: slice) -> Float[Tensor, "n b"]:
        """Probability of some masks at some places, which are as in `Sight`."""
        ...


@dataclass(frozen=True)
class QueryMasks:
    """Masks of instance queries, at the resolution of their features; never computed for whole photos."""

    queries: Float[Tensor, "M E"]
    features: Float[Tensor, "V h w E"]
    threshold: float

    def __len__(self) -> int:
        return len(self.queries)

    def probabilities(self, view: int, places: Float[Tensor, "n 2"], chosen: slice) -> Float[Tensor, "n b"]:
        """Sigmoid of the products of queries and features."""
        rows, columns = mask_cells(places, self.features.shape[1:3])
        return (self.features[view, rows, columns].float() @ self.queries[chosen].float().T).sigmoid()


@dataclass(frozen=True)
class LabelMasks:
    """Masks that exclude each other: one label per pixel."""

    labels: Int64[Tensor, "V H W"]  # -1 = none
    number: int  # of labels
    threshold: float = 0.5

    def __len__(self) -> int:
        return self.number

    def probabilities(self, view: int, places: Float[Tensor, "n 2"], chosen: slice) -> Float[Tensor, "n b"]:
        """1 inside, 0 outside."""
        rows, columns = mask_cells(places, self.labels.shape[1:3])
        numbers = torch.arange(self.number, device=places.device)[chosen]
        return (self.labels[view, rows, columns][:, None] == numbers).float()


def mask_cells(places: Float[Tensor, "n 2"], size_hw: Sequence[int]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Rows and columns of places in a mask, whose pixels need not be square in the image: a factor for each axis."""
    cells = [(places[:, axis] * size).long().clamp(max=size - 1) for axis, size in ((1, size_hw[0]), (0, size_hw[1]))]
    return cells[0], cells[1]


@dataclass(frozen=True)
class Ballot(TensorFields):
    """What all views say about the points in a block of masks."""

    seen: Int64[Tensor, " N"]  # views that show the point
    inside: Int[Tensor, "N b"]  # of them, views in which it is inside the mask
    total: Float[Tensor, "N b"]  # sum of the mask's probabilities over them

    def decide(self, rule: Rule, threshold: float) -> Bool[Tensor, "b N"]:
        """Points inside each mask: in any visible view, in more than half of them, or by the mean probability.

        Points that no view shows are in no mask.
        """
        seen = self.seen[:, None]
        if rule == "any":
            return (self.inside > 0).T
        if rule == "majority":
            return (2 * self.inside > seen).T
        return (self.total > threshold * seen).T


@torch.no_grad()
def hold_ballot(masks: Masks, sights: Sequence[Sight], num_points: int, chosen: slice) -> Ballot:
    """Collect the votes of all views on a block of masks, view after view."""
    device = sights[0].points.device
    count = len(range(*chosen.indices(len(masks))))
    seen = torch.zeros(num_points, dtype=torch.int64, device=device)
    inside = torch.zeros(num_points, count, dtype=torch.int32, device=device)
    total = torch.zeros(num_points, count, device=device)
    for view, sight in enumerate(sights):
        probabilities = masks.probabilities(view, sight.places, chosen)
        seen[sight.points] += 1
        inside[sight.points] += probabilities > masks.threshold
        total[sight.points] += probabilities
    return Ballot(seen, inside, total)


def vote_in_segments(masks: Bool[Tensor, "b N"], segments: Int64[Tensor, " N"]) -> Bool[Tensor, "b N"]:
    """Copy to every superpoint what more than half of its points say.

    Example:
        >>> import torch
        >>> from tokengroups.evaluation.vertex_masks import vote_in_segments
        >>> vote_in_segments(torch.tensor([[True, True, False, True, False]]), torch.tensor([0, 0, 0, 1, 1])).int()
        tensor([[1, 1, 1, 0, 0]], dtype=torch.int32)
    """
    sizes = segments.bincount()
    votes = torch.zeros(len(sizes), len(masks), device=masks.device)  # float32 counts exactly up to 2^24
    votes.index_add_(0, segments, masks.T.float())
    return (2 * votes > sizes[:, None])[segments].T
