"""The folder of a segmentation: masks, depth, cameras, facts and pictures, all or none."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokengroups.io.cameras import save_posed_cameras
from tokengroups.io.decoding import MAX_MEGAPIXELS
from tokengroups.io.files import staged_folder, write_text
from tokengroups.io.images import Photo, Photos, decode_photo
from tokengroups.io.overlays import ContactSheet, draw_overlay, overlay_size
from tokengroups.io.photo_maps import on_photo
from tokengroups.io.pictures import color_name, depth_steps, group_color, group_id_pixels, id_values
from tokengroups.io.pixels import write_pixels
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.io.video import video_writer
from tokengroups.segmentation.facts import Sightings
from tokengroups.segmentation.layout import CAMERAS, CONTACT_SHEET, INSTANCES, VIDEO, Layout
from tokengroups.segmentation.segment import Segmentation

FORMAT, VERSION = "tokengroups.instances", 1
DEPTH_SCALE = "relative: z in the unit of cameras.json, which is known up to one factor for the whole scene"
Watch = Callable[[Iterable[int], int, str], Iterable[int]]  # shows progress: items, their number, what


def write_segmentation(
    folder: str | os.PathLike[str],
    found: Segmentation,
    photos: Photos,
    layout: Layout,
    origin: Mapping[str, Any],
    *,
    video: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    watch: Watch = lambda items, total, what: items,  # noqa: ARG005
) -> dict[str, Any]:
    """Write all files of a segmentation, photo by photo; CONVENTIONS.md describes them.

    Args:
        folder: Created where missing; see `tokengroups.segmentation.layout.check_place`.
        found: The instances.
        photos: As they were loaded; their files are read again for the pictures.
        layout: Names of the files.
        origin: Further facts for ``instances.json``: weights, steps, licence, ...
        video: Also write the overlays as a video.
        max_megapixels: As for `load_photos`.
        watch: Shows progress.

    Returns:
        The content of ``instances.json``.

    Raises:
        UserError: A file cannot be written, or a photo no longer be read.
    """
    with staged_folder(folder) as staging:
        sizes = [overlay_size(photo.size_hw) for photo in photos.photos]
        writer = _Writer(staging, found, layout, ContactSheet(sizes), max_megapixels)
        largest = max(height for height, _ in sizes), max(width for _, width in sizes)
        with _perhaps_video(staging / VIDEO if video else None, largest) as show:
            for view in watch(range(len(sizes)), len(sizes), "writing"):
                show(writer.write(view, photos.photos[view]))
        write_pixels(staging / CONTACT_SHEET, writer.sheet.pixels())
        save_posed_cameras(staging / CAMERAS, writer.cameras)
        content = {
            "format": FORMAT,
            "version": VERSION,
            **origin,
            "depth_scale": DEPTH_SCALE,
            "photos": writer.entries,
            "instances": writer.instances(),
        }
        write_text(staging / INSTANCES, json.dumps(content, indent=1) + "\n")
    return content


class _Writer:
    """Writes the files of one photo after the other, and keeps what is to be said about all of them."""

    def __init__(
        self, folder: Path, found: Segmentation, layout: Layout, sheet: ContactSheet, max_megapixels: float
    ) -> None:
        self.folder, self.found, self.layout, self.max_megapixels = folder, found, layout, max_megapixels
        self.values = id_values(found.ids.tolist())  # of the instances in mask pictures
        self.sheet, self.sightings = sheet, Sightings()
        self.entries: list[dict[str, Any]] = []
        self.cameras: list[PosedCamera] = []

    def write(self, view: int, photo: Photo) -> np.ndarray:
        """Write mask, depth and overlay of a photo; returns the overlay."""
        name, files = self.layout.photos[photo.path], {}
        for kind in ("masks", "depth", "overlays"):
            files[kind] = self.layout.file(kind, photo.path)
            (self.folder / files[kind]).parent.mkdir(parents=True, exist_ok=True)
        labels = self.found.labels[view]
        mask = on_photo(group_id_pixels(labels, self.values), photo, 0)
        self.sightings.add(name, mask)
        write_pixels(self.folder / files["masks"], mask)
        depth, unit = depth_steps(self.found.depth[view])
        write_pixels(self.folder / files["depth"], on_photo(depth, photo, 0))
        image, _, _ = decode_photo(photo.path, max_megapixels=self.max_megapixels)
        size_hw = overlay_size(photo.size_hw)
        overlay = draw_overlay(image, on_photo(labels.numpy(), photo, -1, size_hw))
        write_pixels(self.folder / files["overlays"], overlay)
        image.thumbnail((self.sheet.side, self.sheet.side))
        self.sheet.add(np.asarray(image), overlay, name)
        self.cameras.append(_camera(self.found, view, photo, name))
        self.entries.append(
            {
                "name": name,
                "size_hw": list(photo.size_hw),
                "exif_orientation": photo.exif_orientation,
                "crop_box": list(photo.crop_box),
                "mask": files["masks"],
                "depth": files["depth"],
                "depth_unit": unit,
                "overlay": files["overlays"],
            }
        )
        return overlay

    def instances(self) -> list[dict[str, Any]]:
        """Facts about the instances that are seen in a mask."""
        found, entries = self.found, []
        names = found.names or ("",) * len(found.ids)
        for instance, score, name in zip(found.ids.tolist(), found.scores.tolist(), names, strict=True):
            value = self.values[instance]
            if value in self.sightings.pixels:
                facts = {"id": instance, "value": value, "name": name, "score": round(score, 6)}
                color = color_name(group_color(instance))
                entries.append({**facts, "color": color, **self.sightings.of(value)})
        return entries


def _camera(found: Segmentation, view: int, photo: Photo, name: str) -> PosedCamera:
    """Camera of the whole upright photo."""
    pinhole = photo.photo_from_model @ found.cameras.intrinsics[view].double().numpy()
    pose = found.cameras.cam_from_world[view].double().numpy()
    return PosedCamera(name, pose, pinhole, photo.size_hw, upright=True)


@contextlib.contextmanager
def _perhaps_video(path: Path | None, size_hw: tuple[int, int]) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes the pictures of a video; without a path it drops them."""
    if path is None:
        yield lambda picture: None  # noqa: ARG005
        return
    with video_writer(path, size_hw) as add:
        yield add
