"""Edit of the whole scene: its unit of length."""

from __future__ import annotations

from dataclasses import dataclass

from tokengroups.editing.base import Edit, record
from tokengroups.editing.values import Number, check_number
from tokengroups.errors import UserError
from tokengroups.geometry import transform_points
from tokengroups.scene import scale_scene
from tokengroups.types import TokenScene

_FACTORS = (1e-6, 1e6)
_SHALLOWEST = 0.1  # median depth in a context camera; the renderer's near plane, 0.01, is a length


def rescale(scene: TokenScene, factor: Number) -> TokenScene:
    """Multiply all lengths of the scene by a factor, about the world's origin: set the scale by a known length.

    The factor is the true distance of two points divided by that in the scene. Context cameras move along, so
    pictures stay the same, and depth is multiplied. In the provenance, ``unit`` becomes ``given``.

    Raises:
        UserError: A factor that is not from 1e-6 to 1e6, or so small that renderers would cut the scene off.

    Example:
        >>> import tokengroups as tg
        >>> scene = tg.example_scene()
        >>> metric = tg.rescale(scene, 2.05 / 4.1)
        >>> bool((metric.gaussians.means == 0.5 * scene.gaussians.means).all())
        True
    """
    factor = check_number(factor, "rescale: the factor", positive=True)
    low, high = _FACTORS
    if not low <= factor <= high:
        raise UserError(f"rescale: the factor must be from {low:g} to {high:g}, got {factor:g}")
    if factor < 1 and (depth := factor * _shallowest(scene)) < _SHALLOWEST:
        raise UserError(
            f"rescale: the scene would be {depth:.2g} deep, and renderers draw nothing that is nearer than 0.01; "
            "give a larger factor, for a smaller unit"
        )
    return record(scale_scene(scene, factor, "given"), "rescale", factor=factor)


def _shallowest(scene: TokenScene) -> float:
    """Smallest median depth of the anchors in front of a context camera; infinite if there are none."""
    depths = (transform_points(pose, scene.anchors)[:, 2] for pose in scene.cameras.cam_from_world)
    ahead = (depth[depth > 0] for depth in depths)
    return min((float(depth.median()) for depth in ahead if len(depth)), default=float("inf"))


@dataclass(frozen=True)
class Rescale(Edit):
    """Command-line form of `rescale`."""

    FORM = "FACTOR"
    HELP = "multiply all lengths of the scene; FACTOR = true length / length in the scene"
    DONE = "rescaled the scene by {factor}"
    FUNCTION = staticmethod(rescale)
    factor: float
