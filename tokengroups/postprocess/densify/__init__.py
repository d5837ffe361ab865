"""Densify: Gaussians of photo resolution where those of the anchors cannot show what the photos do.

A decoder gives every anchor a few Gaussians, too few for grain, letters and thin things. Where a rendering differs from
a photo, the photo's pixels become Gaussians on the refined depth, at first nearly transparent: fitting decides which
are needed. What several photos show is taken once, and what other photos see through is not taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.bounds import Between, Settings
from tokengroups.nearest import nearest
from tokengroups.postprocess.densify.surface_gaussians import pixel_gaussians
from tokengroups.postprocess.densify.upsampling import upsample_depth
from tokengroups.postprocess.depth_agreement import compare_depth
from tokengroups.postprocess.draft import Draft
from tokengroups.postprocess.full_photos import finest_photos
from tokengroups.postprocess.gaussian_fitting import refine_gaussians, steps_for
from tokengroups.render import render
from tokengroups.types import Cameras, Gaussians, cat

COLOR_STD = 0.1  # difference of colours in [0, 1] that parts a pixel from an anchor like a distance between anchors


@dataclass(frozen=True)
class Densify(Settings):
    """Add Gaussians of photo resolution where a rendering differs from the photos, and fit all (a `Step`).

    It works on photos of `full_size` pixels a side where there are as many, and on those of the encoder otherwise.
    A new Gaussian belongs to the anchor nearest to it in space and colour, so that groups end where colours do.
    """

    max_gaussians: Annotated[int, Between(1, 20_000_000)] = 300_000  # of the scene; pixels that differ most come first
    full_size: Annotated[int, Between(32, 4096)] = 256
    least_error: Annotated[float, Between(0, 1)] = 0.02  # mean difference of colours in [0, 1] around a pixel
    steps: Annotated[int, Between(0, 1000)] = 10  # of fitting, as `PhotometricRefinement.full_steps`

    when: ClassVar[str] = "after_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    @torch.no_grad()
    def __call__(self, draft: Draft) -> Draft:
        """Replace the Gaussians of the prediction and their anchors' indices."""
        prediction, depth = draft.predicted(), draft.geometry.depth
        photos, cameras, mask = finest_photos(draft, self.full_size)
        if photos.shape != draft.photos.shape:
            depth = upsample_depth(depth, draft.photos, photos)
        errors = rendering_errors(prediction.gaussians, photos, cameras, mask)
        depth, chosen = choose_pixels(depth, cameras, errors, self.least_error, mask)
        room = max(self.max_gaussians - len(prediction.gaussians.means), 0)
        if int(chosen.sum()) > room:
            least = errors[chosen].topk(room + 1).values[-1]
            chosen &= errors > least
        added = pixel_gaussians(photos, depth, cameras, chosen, prediction.gaussians.sh.shape[1])
        view, row, column = prediction.anchor_pixels.unbind(dim=1)
        colors = photos.movedim(1, -1)[chosen], draft.photos[view, :, row, column]
        anchor_ids = anchors_of(added.means, colors[0], prediction.anchors, colors[1])
        anchor_ids = torch.cat([prediction.anchor_ids, anchor_ids])
        gaussians = cat([prediction.gaussians, added])
        gaussians = refine_gaussians(gaussians, photos, cameras, steps_for(self.steps, len(photos)), mask=mask)
        return replace(draft, prediction=replace(prediction, gaussians=gaussians, anchor_ids=anchor_ids))


def rendering_errors(
    gaussians: Gaussians, photos: Float[Tensor, "V 3 H W"], cameras: Cameras, mask: Bool[Tensor, "V H W"] | None = None
) -> Float[Tensor, "V H W"]:
    """Mean absolute difference of colours between a rendering and each photo, over 3 x 3 pixels, those that count."""
    errors = []
    for view, photo in enumerate(photos):
        one = slice(view, view + 1)
        shown = render(gaussians, cameras.cam_from_world[one], cameras.intrinsics[one], cameras.size_hw).colors[0]
        errors.append((shown.movedim(-1, 0) - photo).abs().mean(dim=0))
    counts = torch.ones_like(photos[:, 0]) if mask is None else mask.to(photos)
    near = [
        functional.avg_pool2d(each[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
        for each in (torch.stack(errors) * counts, counts)
    ]
    return near[0] / near[1].clamp_min(1e-6)


def choose_pixels(
    depth: Float[Tensor, "V H W"],
    cameras: Cameras,
    errors: Float[Tensor, "V H W"],
    least_error: float,
    mask: Bool[Tensor, "V H W"] | None = None,
) -> tuple[Float[Tensor, "V H W"], Bool[Tensor, "V H W"]]:
    """Fuse depth, and choose the pixels that become Gaussians.

    Returns:
        Depth moved to the mean of the photos that see the same surface; the pixels that differ from the rendering,
        that no earlier photo has, and that no more photos see through than confirm.
    """
    fused, chosen = depth.clone(), (errors > least_error) & (depth > 0)
    for view in range(len(depth)):
        said = compare_depth(depth, cameras, view, mask)
        fused[view] = depth[view] * said.log_offset.exp()
        chosen[view] &= said.owned & (said.conflicts <= said.support)
    return fused, chosen if mask is None else chosen & mask


def anchors_of(
    points: Float[Tensor, "N 3"],
    colors: Float[Tensor, "N 3"],
    anchors: Float[Tensor, "K 3"],
    anchor_colors: Float[Tensor, "K 3"],
) -> Int64[Tensor, " N"]:
    """Index of the anchor of each point: the nearest one by place and colour together.

    Places count in the median distance between neighbouring anchors, colours, in [0, 1], in tenths.
    """
    spacing = nearest(anchors, anchors, 2)[0][:, -1].median().clamp_min(1e-12)
    here = torch.cat([points / spacing, colors / COLOR_STD], dim=1)
    return nearest(here, torch.cat([anchors / spacing, anchor_colors / COLOR_STD], dim=1), 1)[1][:, 0]
