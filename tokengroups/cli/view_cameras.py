"""The cameras of `tokengroups render`: those that ``--camera`` describes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.errors import UserError
from tokengroups.reading import path_kind, read_json, shown

if TYPE_CHECKING:
    from tokengroups.types import Cameras, TokenScene

MAX_SIDE_PX = 4096
MAX_PIXELS = 3 * 2**22  # 4096x3072, of one picture: rendering takes about 100 bytes a pixel and more with the groups
MAX_FRAMES = 10000
_KINDS = (
    "context, context:I, orbit:N, orbit:N:DEGREES, a cameras.json, path.json or transforms.json, or a COLMAP folder"
)


@dataclass(frozen=True)
class Pace:
    """How many views a camera path becomes."""

    fps: float
    seconds: float | None = None  # None: as its file says

    def count(self, seconds: float) -> int:
        """Number of frames of a path whose file says so many seconds.

        Raises:
            UserError: There are too many.
        """
        seconds = self.seconds or seconds
        count = max(round(seconds * self.fps), 1)
        if count > MAX_FRAMES:
            many = f"{seconds:g} s at {self.fps:g} frames a second are {count:,} frames, more than {MAX_FRAMES:,}"
            raise UserError(f"{many}; lower --fps or --seconds")
        return count


def is_path_file(text: str) -> bool:
    """Tell whether ``--camera`` names a camera path."""
    from tokengroups.io.camera_paths import is_camera_path

    is_json = Path(text).suffix.lower() == ".json" and path_kind(text) == "file"
    return is_json and is_camera_path(read_json(text, f"give {_KINDS}"))


def choose_cameras(scene: TokenScene, text: str, height: int | None, pace: Pace) -> Cameras:
    """Make or load the cameras that ``--camera`` describes; a height in pixels replaces their own.

    Raises:
        UserError: None of the kinds, a bad number or file, or too many or too large pictures.
    """
    from tokengroups.scene.views import orbit_cameras, resize_cameras, select_cameras

    def whole(word: str, low: int, high: int) -> int:
        if not word.isdecimal() or len(word) > 9 or not low <= int(word) <= high:
            raise UserError(f"--camera {shown(text)}: '{shown(word)}' should be a whole number from {low} to {high}")
        return int(word)

    kind, *rest = text.split(":")
    if kind == "context" and len(rest) <= 1:
        count = len(scene.cameras.intrinsics)
        indices = [whole(rest[0], 0, count - 1)] if rest else list(range(count))
        cameras = select_cameras(scene.cameras, indices)
    elif kind == "orbit" and 1 <= len(rest) <= 2:
        degrees = whole(rest[1], 1, 360) if len(rest) == 2 else 360
        cameras = orbit_cameras(scene, whole(rest[0], 1, MAX_FRAMES), degrees)
    elif is_path_file(text):
        cameras = _read_path(text, pace)
    elif Path(text).suffix.lower() == ".json" or path_kind(text) in ("file", "folder"):
        cameras = _read_cameras(scene, text)
    else:
        raise UserError(f"--camera {shown(text)}: give {_KINDS}")
    cameras = cameras if height is None else resize_cameras(cameras, height)
    tall, wide = cameras.size_hw
    if max(tall, wide) > MAX_SIDE_PX or tall * wide > MAX_PIXELS:
        limits = f"at most {MAX_SIDE_PX} a side and {MAX_PIXELS / 1e6:.1f} megapixels; lower them with --size"
        raise UserError(f"pictures of {wide}x{tall} are too large: {limits}")
    return cameras


def _read_path(text: str, pace: Pace) -> Cameras:
    """Cameras of the frames of a path file, in the scene's world."""
    import torch

    from tokengroups.io.camera_paths import load_camera_path
    from tokengroups.scene.paths import path_cameras

    path = load_camera_path(text)
    return path_cameras(path.viewpoints, pace.count(path.seconds), path.closed).to(torch.float32)


def _read_cameras(scene: TokenScene, text: str) -> Cameras:
    """Cameras of a file or COLMAP folder, in the scene's world."""
    import torch

    from tokengroups.io.camera_files import load_camera_set
    from tokengroups.io.cameras import same_size
    from tokengroups.scene import cameras_in_scene, world_from_scene

    found, of_photos = load_camera_set(Path(text), "--camera")
    if len(found.cameras) > MAX_FRAMES:
        raise UserError(f"--camera {shown(text)}: {len(found.cameras)} cameras, more than {MAX_FRAMES}; split the file")
    cameras, moved = same_size(text, found), world_from_scene(scene)
    return cameras_in_scene(cameras, moved) if of_photos and moved is not None else cameras.to(torch.float32)
