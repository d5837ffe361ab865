"""3D Gaussian Splatting PLY files (Kerbl et al. 2023) and 2DGS' variant; CONVENTIONS.md has their layout.

`read_vertices` and `write_vertices` keep every bit. The conversions to and from `Gaussians` apply the activations and
their inverses.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float64
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import (
    LOG_ZERO,
    faults,
    log_from_scale,
    logit_from_opacity,
    opacity_from_logit,
    scale_from_log,
)
from tokengroups.io.ply_table import read_table, write_table
from tokengroups.reading import shown
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Gaussians

MEANS = ("x", "y", "z")
_NORMALS = ("nx", "ny", "nz")
COLOR = ("f_dc_0", "f_dc_1", "f_dc_2")
RGB = ("red", "green", "blue")
SCALES = ("scale_0", "scale_1", "scale_2")
QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
_REQUIRED = (*MEANS, *COLOR, "opacity", *SCALES[:2], *QUATS)  # 2DGS has flat Gaussians without a third scale
_REST_COUNTS = (0, 9, 24, 45)  # properties f_rest_* for SH degree 0, 1, 2, 3

write_vertices = write_table


def load_ply(path: str | os.PathLike[str]) -> Gaussians:
    """Read Gaussians, float32, with linear scales and opacities in [0, 1].

    Properties may be in any order, further ones are ignored, normals are optional. The SH degree is 0 to 3. Bytes
    ``red green blue`` take the place of missing ``f_dc_*``. Without ``scale_2`` the third scale is 0.

    Raises:
        UserError: Not readable, not a 3DGS PLY, truncated, or with invalid values (see `check_gaussians`).
    """
    gaussians = gaussians_from_vertices(read_vertices(path))
    check_gaussians(path, gaussians)
    return gaussians


def check_gaussians(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Refuse the Gaussians of a file if some are invalid; an infinite logit is valid, as an opacity of 0 or 1.

    Raises:
        UserError: Some have one of the `faults`.
    """
    found = {what: mask for what, mask in faults(gaussians).items() if bool(mask.any())}
    if found:
        count = int(torch.stack(list(found.values())).any(dim=0).sum())
        raise UserError(
            f"{shown(path)}: {count} of {len(gaussians.means)} Gaussians hold {', '.join(found)}; "
            "import with --drop-invalid to leave them out"
        )


def save_ply(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write unbatched Gaussians, atomically; every viewer of 3DGS PLY files reads them.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import tokengroups as tg
        >>> from tokengroups.io.ply import load_ply, save_ply
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_ply(Path(folder) / "scene.ply", tg.example_scene().gaussians)
        ...     loaded = load_ply(Path(folder) / "scene.ply")
        >>> loaded.means.shape
        torch.Size([613, 3])
    """
    write_vertices(path, vertices_from_gaussians(gaussians))


def gaussians_from_vertices(vertices: np.ndarray, origin: Float64[np.ndarray, "3"] | None = None) -> Gaussians:
    """Apply the activations to the raw values of a 3DGS PLY.

    `origin` is subtracted from the positions before they are rounded to float32.
    """
    rest = rearrange(_columns(vertices, _rest_names(vertices)), "n (c s) -> n s c", c=3)
    return Gaussians(
        means=_columns(vertices, MEANS) if origin is None else torch.from_numpy(_float32(positions(vertices) - origin)),
        quats=_columns(vertices, QUATS),
        scales=scale_from_log(_log_scales(vertices)),
        opacities=opacity_from_logit(_columns(vertices, ("opacity",))[:, 0]),
        sh=torch.cat([_constant_sh(vertices)[:, None], rest], dim=1),
    )


def positions(vertices: np.ndarray) -> Float64[np.ndarray, "N 3"]:
    """Positions as exact as they stand in the file."""
    return np.stack([vertices[name].astype(np.float64) for name in MEANS], axis=1)


def vertices_from_gaussians(gaussians: Gaussians) -> np.ndarray:
    """Raw values of a 3DGS PLY, in the standard layout; all finite for finite Gaussians."""
    rest = rearrange(gaussians.sh[:, 1:], "n s c -> n (c s)")
    names = (*MEANS, *_NORMALS, *COLOR, *(f"f_rest_{i}" for i in range(rest.shape[1])), "opacity", *SCALES, *QUATS)
    values = torch.cat(
        [
            gaussians.means,
            torch.zeros_like(gaussians.means),
            gaussians.sh[:, 0],
            rest,
            logit_from_opacity(gaussians.opacities)[:, None],
            log_from_scale(gaussians.scales),
            gaussians.quats,
        ],
        dim=1,
    )
    table = np.ascontiguousarray(values.detach().float().cpu().numpy(), dtype="<f4")
    return table.view([(name, "<f4") for name in names])[:, 0]


def read_vertices(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the vertex table of a 3DGS PLY as it stands in the file (binary or ascii).

    Raises:
        UserError: Not readable, not a PLY, not a 3DGS PLY, or truncated.
    """
    vertices = read_table(path)
    names = vertices.dtype.names or ()
    missing = [name for name in _REQUIRED if name not in names and not (name in COLOR and _has_byte_colors(vertices))]
    if missing:
        raise UserError(f"{shown(path)}: not a 3DGS PLY: it lacks the properties {', '.join(missing)}")
    rest = {name for name in names if name.startswith("f_rest_")}
    if len(rest) not in _REST_COUNTS or rest != {f"f_rest_{i}" for i in range(len(rest))}:
        wanted = f"SH degrees 0 to 3 have {_REST_COUNTS}, numbered from 0"
        raise UserError(f"{shown(path)}: {len(rest)} properties f_rest_*; {wanted}")
    return vertices


def _rest_names(vertices: np.ndarray) -> tuple[str, ...]:
    """Names of the higher SH coefficients in their order, however the file orders them."""
    count = sum(name.startswith("f_rest_") for name in vertices.dtype.names or ())
    return tuple(f"f_rest_{i}" for i in range(count))


def _has_byte_colors(vertices: np.ndarray) -> bool:
    return all(name in (vertices.dtype.names or ()) and vertices.dtype[name] == np.uint8 for name in RGB)


def _constant_sh(vertices: np.ndarray) -> Tensor:
    """Constant SH coefficients [N, 3]: ``f_dc_*``, or those of the colours in bytes."""
    if set(COLOR) <= set(vertices.dtype.names or ()):
        return _columns(vertices, COLOR)
    return (_columns(vertices, RGB) / 255 - 0.5) / SH_C0


def _log_scales(vertices: np.ndarray) -> Tensor:
    """Logarithms of the scales [N, 3]; flat Gaussians have the third scale 0."""
    if SCALES[2] in (vertices.dtype.names or ()):
        return _columns(vertices, SCALES)
    return torch.nn.functional.pad(_columns(vertices, SCALES[:2]), (0, 1), value=LOG_ZERO)


def _columns(vertices: np.ndarray, names: tuple[str, ...]) -> Tensor:
    """Values as float32 [N, len(names)]."""
    table = np.empty((len(vertices), len(names)), np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        for column, name in enumerate(names):
            table[:, column] = vertices[name]
    return torch.from_numpy(table)


def _float32(values: Float64[np.ndarray, "N C"]) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
