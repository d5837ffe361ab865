"""Export of a scene's photos with their cameras and points, for programs that train on them: COLMAP and nerfstudio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from tokengroups.errors import UserError
from tokengroups.gaussians import color_from_sh
from tokengroups.io.colmap_writing import save_colmap
from tokengroups.io.files import check_folder, staged_folder
from tokengroups.io.photo_copies import copy_name, copy_photo, is_plain
from tokengroups.io.points import PointCloud, save_points
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.io.scene_photos import RecordedPhoto, ScenePhoto, find_scene_photos, recorded_photos
from tokengroups.io.transforms import save_transforms
from tokengroups.reading import escaped, path_kind, shown
from tokengroups.types import TokenScene

CAPTURES = ("colmap", "colmap-text", "transforms")
_IMAGES, _MODEL, _TRANSFORMS, _POINTS = "images", "sparse/0", "transforms.json", "points.ply"
_SOLID = 0.1  # opacity from which on a Gaussian is a point
Watch = Callable[[Iterable[int], int, str], Iterable[int]]  # shows progress: items, their number, what


@dataclass(frozen=True)
class ExportedCapture:
    """The files of a capture, with notes for the user."""

    files: list[Path]
    notes: tuple[str, ...]


def export_capture(
    scene: TokenScene,
    folder: str | os.PathLike[str],
    form: str,
    photos: Sequence[str] = (),
    watch: Watch = lambda items, total, what: items,  # noqa: ARG005
) -> ExportedCapture:
    """Write cameras, points and photos of a scene, in its world; all files or none.

    Cameras are pinholes for the photos as given, not for what the scene saw of them. Points are the centres of all
    Gaussians of opacity 0.1 or more. Photos lie in ``images``: copied, or written anew where their EXIF tag turns them,
    the scene saw them without lens distortion, or not every program reads them.

    Args:
        scene: The scene.
        folder: Created where missing.
        form: "colmap" or "colmap-text" (a model in ``sparse/0``), or "transforms" (nerfstudio's ``transforms.json``).
        photos: Files and folders with the photos of the context views; none = cameras only, for the photos' recorded
            sizes where the scene knows them.
        watch: Shows progress.

    Raises:
        UserError: A photo is missing or has another shape, or the folder is no place for the files.

    Example:
        >>> import tempfile
        >>> import tokengroups as tg
        >>> from tokengroups.scene import export_capture
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = export_capture(tg.example_scene(), folder, "colmap").files
        >>> [path.name for path in files]
        ['cameras.bin', 'images.bin', 'points3D.bin']
    """
    folder = check_folder(folder)
    _check_place(folder, form)
    count, notes = len(scene.cameras.intrinsics), []
    if scene.provenance.get("edits"):
        notes.append("the scene was edited: its points are, its photos are not")
    found: Sequence[ScenePhoto] = ()
    if photos:
        found, more = find_scene_photos(photos, scene.provenance, count)
        notes += more
        _check_sources(folder, found)
    with staged_folder(folder) as staging:
        cameras = list(_copied(scene, found, staging / _IMAGES, watch) if found else _recorded(scene, notes))
        model = _write(staging, form, cameras, _points(scene))
    copies = [folder / _IMAGES / camera.name for camera in cameras] if found else []
    return ExportedCapture([*(folder / name for name in model), *copies], tuple(notes))


def _write(staging: Path, form: str, cameras: Sequence[PosedCamera], points: PointCloud) -> list[Path]:
    """Write the model; returns its files, relative to the folder."""
    if form == "transforms":
        framed = [replace(camera, name=f"{_IMAGES}/{camera.name}") for camera in cameras]
        save_points(staging / _POINTS, points)
        save_transforms(staging / _TRANSFORMS, framed, _POINTS)
        return [Path(_TRANSFORMS), Path(_POINTS)]
    (staging / _MODEL).mkdir(parents=True)
    files = save_colmap(staging / _MODEL, cameras, points, binary=form == "colmap")
    return [path.relative_to(staging) for path in files]


def _check_place(folder: Path, form: str) -> None:
    """Refuse unknown forms, and folders where a binary and a text model would lie side by side."""
    if form not in CAPTURES:
        raise UserError(f"no format '{shown(form)}'; choose from {', '.join(CAPTURES)}")
    other = {"colmap": "cameras.txt", "colmap-text": "cameras.bin"}.get(form)
    if other and path_kind(folder / _MODEL / other) != "missing":
        raise UserError(f"{shown(folder)} has a model in the other format ({_MODEL}/{other}); give another folder")


def _check_sources(folder: Path, photos: Sequence[ScenePhoto]) -> None:
    """Refuse to write over the photos themselves."""
    place = Path(os.path.realpath(folder / _IMAGES))
    inside = next((photo.path for photo in photos if place in Path(os.path.realpath(photo.path)).parents), None)
    if inside is not None:
        raise UserError(f"{shown(inside)} lies where its copy would be written; give another folder")


def _copied(scene: TokenScene, photos: Sequence[ScenePhoto], images: Path, watch: Watch) -> Iterator[PosedCamera]:
    """Copy the photos one by one; yields their cameras."""
    taken: set[str] = set()
    images.mkdir()
    for view in watch(range(len(photos)), len(photos), "copying"):
        path = photos[view].path
        image, box = photos[view].whole(scene.cameras.size_hw)
        recorded = photos[view].recorded
        plain = is_plain(path) and (recorded is None or recorded.lens is None)
        name = copy_name(path, plain)
        name = f"{view:03d}_{name}" if name in taken else name
        taken.add(name)
        copy_photo(path, None if plain else image, images / name)
        yield _camera(scene, view, name, box, (image.height, image.width))


def _recorded(scene: TokenScene, notes: list[str]) -> Iterator[PosedCamera]:
    """Cameras of photos that are not given, by what the scene records of them; adds a note."""
    height, width = size_hw = scene.cameras.size_hw
    count = len(scene.cameras.intrinsics)
    nothing = [RecordedPhoto(f"{view:03d}.png") for view in range(count)]
    recorded = recorded_photos(scene.provenance.get("photos"), count) or nothing
    if all(photo.size_hw and photo.crop_box for photo in recorded):
        notes.append(f"no photos given: the cameras are for the whole, upright ones; put these into {_IMAGES}/")
    else:
        notes.append(f"no photos given: the cameras are for pictures of {width}x{height} pixels, as the scene saw them")
    for view, photo in enumerate(recorded):
        known = photo.size_hw is not None and photo.crop_box is not None
        box, whole_hw = (photo.crop_box, photo.size_hw) if known else ((0, 0, width, height), size_hw)
        assert box is not None and whole_hw is not None
        yield _camera(scene, view, escaped("_".join(Path(photo.name).name.split())), box, whole_hw)


def _camera(
    scene: TokenScene, view: int, name: str, box: tuple[float, float, float, float], photo_hw: tuple[int, int]
) -> PosedCamera:
    """Camera of a whole photo, of which a context view shows the box (left, top, right, bottom)."""
    (height, width), (left, top, right, bottom) = scene.cameras.size_hw, box
    photo_from_view: Float[np.ndarray, "3 3"] = np.array(
        [[(right - left) / width, 0, left], [0, (bottom - top) / height, top], [0, 0, 1]], np.float64
    )
    pinhole = photo_from_view @ scene.cameras.intrinsics[view].double().numpy()
    return PosedCamera(name, scene.cameras.cam_from_world[view].double().numpy(), pinhole, photo_hw)


def _points(scene: TokenScene) -> PointCloud:
    solid = scene.gaussians.opacities >= _SOLID
    solid = solid if bool(solid.any()) else torch.ones_like(solid)
    return PointCloud(scene.gaussians.means[solid].double().cpu(), color_from_sh(scene.gaussians.sh[solid]).cpu())
