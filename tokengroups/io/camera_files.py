"""Cameras from whatever a user names: transforms.json, a COLMAP model, or a cameras.json."""

from __future__ import annotations

from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.io.cameras import load_named_cameras
from tokengroups.io.colmap import find_model, load_colmap
from tokengroups.io.posed_cameras import CameraSet
from tokengroups.io.transforms import load_transforms
from tokengroups.reading import check_file, path_kind, read_json, shown

TRANSFORMS = "transforms.json"
KINDS = "a transforms.json, a COLMAP model (its folder) or a cameras.json"


def has_cameras(folder: Path) -> bool:
    """Tell whether a folder holds a transforms.json or a COLMAP model."""
    return path_kind(folder / TRANSFORMS) == "file" or find_model(folder) is not None


def load_camera_set(path: Path, option: str) -> tuple[CameraSet, bool]:
    """Read cameras, and tell whether their world is that of the photos.

    The world of a cameras.json is that of its scene: so `render` and `export` write it.

    Args:
        path: File, or folder with cameras as `has_cameras` finds them.
        option: What the user called it, for messages.

    Raises:
        UserError: Nothing there, another kind of file, or a damaged one.
    """
    if path_kind(path) == "folder":
        is_nerf = path_kind(path / TRANSFORMS) == "file"
        return (load_transforms(path / TRANSFORMS) if is_nerf else load_colmap(path)), True
    check_file(path, f"give {KINDS}")
    if path.suffix.lower() != ".json":
        raise UserError(f"{option} {shown(path)}: give {KINDS}")
    content = read_json(path, f"give {KINDS}")
    if isinstance(content, dict) and "frames" in content:
        return load_transforms(path), True
    return load_named_cameras(path), False
