"""From optimised parameters to a `TokenScene`."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from tokengroups.fitting.parameters import Parameters
from tokengroups.gaussians import select
from tokengroups.types import Cameras, Gaussians, TokenScene

FAINT = 0.005  # Gaussians of less opacity show nowhere: contributions below 1/255 are not rendered
MAX_CAMERAS = 16  # context views; evenly spaced ones of more photos, as for imported scenes


@torch.no_grad()
def build_scene(
    parameters: Parameters, classifier: nn.Linear, ids: Int64[Tensor, " M"], cameras: Cameras, unit: float
) -> TokenScene:
    """The scene of these parameters on the CPU: faint Gaussians and groups that own none are left out.

    Args:
        parameters: Lengths in the units of the optimisation.
        classifier: Identity to group.
        ids: Group id of each of its outputs.
        cameras: Of the photos, in the same units.
        unit: Length of a unit of the optimisation in the scene.
    """
    gaussians = parameters.gaussians().detach()
    visible = gaussians.opacities > FAINT
    if not bool(visible.any()):
        visible = gaussians.opacities >= gaussians.opacities.max()
    kept = select(gaussians, visible)
    kept = Gaussians(kept.means * unit, kept.quats, kept.scales * unit, kept.opacities, kept.sh).to("cpu")
    assignment = classifier(parameters["identities"][visible]).softmax(dim=-1).cpu()
    owned = assignment.argmax(dim=-1).unique()
    # Of the columns that stay, the largest is still the same one.
    assignment = assignment[:, owned] / assignment[:, owned].sum(dim=-1, keepdim=True)
    return TokenScene(
        gaussians=kept,
        anchor_ids=torch.arange(len(kept.means)),
        anchors=kept.means.clone(),
        assignment=assignment,
        group_ids=ids.cpu()[owned],
        group_tokens=torch.zeros(len(owned), 0),
        cameras=_context(cameras, unit),
    )


def _context(cameras: Cameras, unit: float) -> Cameras:
    count = len(cameras.intrinsics)
    chosen = torch.linspace(0, count - 1, min(count, MAX_CAMERAS)).round().long().tolist()
    poses = cameras.cam_from_world[chosen].clone()
    poses[:, :3, 3] *= unit
    return Cameras(poses, cameras.intrinsics[chosen], cameras.size_hw).to("cpu")
