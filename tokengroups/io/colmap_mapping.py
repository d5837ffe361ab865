"""Cameras of photos by COLMAP, through pycolmap.

Schoenberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016.
"""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.focal import DIAGONAL_35MM, exif_focal_px
from tokengroups.io.images import Photo, decode_photo
from tokengroups.io.lenses import lens_of
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.reading import shown

INSTALL = 'pip install "tokengroups[colmap]"'
LONGEST_SIDE_PX = 1600  # of the copies that features are found in; more take much longer and hardly help indoors
QUALITY = 95
LENS = "SIMPLE_RADIAL"  # one coefficient: few photos do not determine more
FEWEST = 2  # photos of a model
FEWEST_INLIERS = 15  # of a photo that is registered; half of the default, for small photos of plain rooms
SEED = 0
_EXIF_IFD, _FOCAL_35MM_TAG = 0x8769, 0xA405
_CURE = "take more photos, each of which shows half of what the one before it shows, or leave --poses out"
Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]  # shows progress: items, their number, what


def check_colmap() -> None:
    """Refuse, before long work, if pycolmap is not installed.

    Raises:
        UserError: Says what to install.
    """
    if importlib.util.find_spec("pycolmap") is None:
        raise UserError(f"--poses colmap needs pycolmap: {INSTALL}")


def map_photos(
    photos: Sequence[Photo],
    watch: Watch = lambda items, total, what: items,  # noqa: ARG005
) -> tuple[dict[Path, PosedCamera], list[str]]:
    """Find cameras by SIFT features, exhaustive matching and incremental mapping, on the CPU.

    Of several models, that with most photos counts. Its world is the camera of its first photo, its unit is COLMAP's.

    Args:
        photos: As `load_photos` found them.
        watch: Shows progress.

    Returns:
        Cameras of the photos that were registered, for the upright photos, in the photos' order; notes on the others.

    Raises:
        UserError: pycolmap is not installed, or finds no model.
    """
    check_colmap()
    files = list(dict.fromkeys(photo.path for photo in photos))
    if len(files) < FEWEST:
        raise UserError(f"--poses colmap: one photo has no others to match; {_CURE}")
    with tempfile.TemporaryDirectory() as temporary:
        names = _copies({photo.path: photo for photo in photos}, Path(temporary, "images"), watch)
        model = _largest_model(Path(temporary), names, watch)
        found = {} if model is None else _cameras(model, dict(zip(names, files, strict=True)))
    if len(found) < FEWEST:
        raise UserError(f"--poses colmap: COLMAP found no cameras for {len(files)} photos; {_CURE}")
    lost = [shown(path.name) for path in files if path not in found]
    some = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    notes = [f"COLMAP registered {len(found)} of {len(files)} photos; left out {some}"] if lost else []
    return {path: found[path] for path in files if path in found}, notes


def _copies(photos: Mapping[Path, Photo], folder: Path, watch: Watch) -> list[str]:
    """Upright, reduced copies that COLMAP reads whatever the format, with the focal length of the EXIF data."""
    folder.mkdir()
    names = []
    for index, photo in enumerate(watch(photos.values(), len(photos), "copying")):
        image, _, _ = decode_photo(photo.path, max_megapixels=math.prod(photo.size_hw) / 1e6 + 1)  # read once already
        scale = min(1.0, LONGEST_SIDE_PX / max(image.size))
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        exif, focal_px = Image.Exif(), exif_focal_px(photo)
        if focal_px is not None:
            exif.get_ifd(_EXIF_IFD)[_FOCAL_35MM_TAG] = round(focal_px * DIAGONAL_35MM / math.hypot(*photo.size_hw))
        names.append(f"{index:05d}.jpg")
        image.resize(size, Image.Resampling.LANCZOS).save(folder / names[-1], quality=QUALITY, exif=exif)
    return names


def _largest_model(folder: Path, names: Sequence[str], watch: Watch) -> Any:
    """Run COLMAP; its model with most photos, or None."""
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    pycolmap.set_random_seed(SEED)
    database, images = folder / "database.db", folder / "images"
    lens = pycolmap.ImageReaderOptions(camera_model=LENS)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    options = pycolmap.IncrementalPipelineOptions(min_model_size=FEWEST, random_seed=SEED, num_threads=1)
    options.mapper.random_seed = options.triangulation.random_seed = SEED
    options.mapper.abs_pose_min_num_inliers = FEWEST_INLIERS
    stages = {
        "features": lambda: pycolmap.extract_features(
            database, images, list(names), reader_options=lens, device=pycolmap.Device.cpu
        ),
        "matching": lambda: pycolmap.match_exhaustive(
            database, verification_options=verification, device=pycolmap.Device.cpu
        ),
        "mapping": lambda: pycolmap.incremental_mapping(database, images, folder, options),
    }
    models: dict[int, Any] = {}
    try:
        for stage in watch(stages, len(stages), "COLMAP"):
            models = stages[stage]() or {}
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--poses colmap: COLMAP failed ({shown(str(error).splitlines()[-1])}); {_CURE}") from None
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)


def _cameras(model: Any, photos: dict[str, Path]) -> dict[Path, PosedCamera]:
    """Cameras of a model, in the world of the first one, by the photos' files."""
    found = {}
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        camera = model.cameras[image.camera_id]
        pose = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        size_hw = (camera.height, camera.width)
        lens = lens_of({"k1": float(camera.params[-1])})
        found[image.name] = (pose, camera.calibration_matrix(), size_hw, lens)
    if not found:
        return {}
    world = np.linalg.inv(found[min(found)][0])
    return {
        photos[name]: PosedCamera(str(photos[name]), pose @ world, pinhole, size_hw, upright=True, lens=lens)
        for name, (pose, pinhole, size_hw, lens) in found.items()
    }
