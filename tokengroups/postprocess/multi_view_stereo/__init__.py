"""Multi-view stereo: depth of every pixel from what the other photos show along its ray.

A network's depth has the right shape and is some per cent off; photos with precise cameras tell it to a pixel, but only
where they have texture and see the same. A plane sweep (Collins 1996) around the predicted depth compares patches,
semi-global matching (Hirschmueller 2008) carries what textured pixels say to the others, and what no other photo
confirms keeps the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.bounds import Between, Settings
from tokengroups.geometry import world_points
from tokengroups.postprocess.depth_agreement import compare_depth
from tokengroups.postprocess.draft import Draft
from tokengroups.postprocess.multi_view_stereo.cost_volume import matching_costs, stereo_partners
from tokengroups.postprocess.multi_view_stereo.semi_global import aggregate, best_label
from tokengroups.types import Cameras

__all__ = ["MultiViewStereo", "refine_depth"]

PRIOR_COST = 0.4  # of a change of log depth by 1, beside matching costs of 0 to 1


@dataclass(frozen=True)
class MultiViewStereo(Settings):
    """Refine depth by comparing photos along the pixels' rays (a `Step`); cameras stay, so run it after their step."""

    planes: Annotated[int, Between(3, 1001)] = 31  # depths that are tried at every pixel
    log_range: Annotated[float, Between(0, 3, open_low=True)] = 0.3  # of them, to both sides of the predicted one

    when: ClassVar[str] = "before_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    @torch.no_grad()
    def __call__(self, draft: Draft) -> Draft:
        """Replace depth and points of the geometry; a single photo keeps its own."""
        geometry = draft.geometry
        depth = refine_depth(draft.photos, geometry.cameras, geometry.depth, self, geometry.mask)
        points = world_points(depth, geometry.cameras.cam_from_world, geometry.cameras.intrinsics)
        return replace(draft, geometry=replace(geometry, depth=depth, points=points))


def refine_depth(
    photos: Float[Tensor, "V 3 H W"],
    cameras: Cameras,
    depth: Float[Tensor, "V H W"],
    settings: MultiViewStereo = MultiViewStereo(),  # noqa: B008 (frozen)
    mask: Bool[Tensor, "V H W"] | None = None,
) -> Float[Tensor, "V H W"]:
    """Depth that the photos agree on, and the given one where they do not.

    Args:
        photos: In [0, 1].
        cameras: Of the photos.
        depth: Predicted, positive.
        settings: The depths that are tried.
        mask: Pixels that count; the others keep their depth, and no photo is compared with them. None = all.
    """
    if len(photos) == 1:
        return depth
    logs = torch.linspace(-settings.log_range, settings.log_range, settings.planes, device=depth.device)
    partners = stereo_partners(depth, cameras)
    labels = torch.empty_like(depth)
    with torch.autocast(photos.device.type, enabled=False):
        for view in range(len(photos)):  # costs of all photos at once would take gigabytes
            costs = matching_costs(photos, cameras, depth, view, partners[view], logs, mask)
            costs = aggregate((costs + PRIOR_COST * logs.abs()[:, None, None])[None], photos[view : view + 1])
            labels[view] = best_label(costs)[0]
    found = depth * (logs[0] + labels * (logs[1] - logs[0])).exp()
    refined = depth.clone()
    for view in range(len(photos)):
        said = compare_depth(found, cameras, view, mask)
        confirmed = (said.support >= 1) & (said.conflicts <= said.support)
        if mask is not None:
            confirmed &= mask[view]
        refined[view] = torch.where(confirmed, found[view] * said.log_offset.exp(), depth[view])
    return refined
