"""Frames of a video as a folder of pictures, and the files of its curated masks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tokengroups.data.curation.base import Photo
from tokengroups.data.curation.video import Clip, VideoSettings
from tokengroups.data.instance_masks import decode_rle, paint
from tokengroups.errors import UserError
from tokengroups.io.files import staged_folder, write_text
from tokengroups.io.images import decode_photo, find_photos
from tokengroups.io.pixels import pixel_size, resize_photo, write_pixels
from tokengroups.reading import path_kind, shown

SUMMARY = "curation.json"


class FrameFolder:
    """Pictures of one size in a folder, in natural order of their names; each is read when it is asked for.

    Args:
        folder: Its pictures are the frames.
        max_height: Higher ones are reduced to it.

    Raises:
        UserError: No folder, no picture in it, or pictures of several sizes.
    """

    def __init__(self, folder: Path, max_height: int) -> None:
        if path_kind(folder) == "missing":
            raise UserError(f"{shown(folder)}: no such file or folder; give a folder of frames, or scans")
        if not folder.is_dir():
            command = f"mkdir frames && ffmpeg -i {folder.name} -r 10 frames/%05d.jpg"
            raise UserError(f"{folder}: not a folder of frames; take them from a video first, e.g. {command}")
        self.paths = find_photos([folder])
        stems = Counter(path.stem for path in self.paths)
        if len(stems) < len(self.paths):
            raise UserError(
                f"{folder}: two frames are named {stems.most_common(1)[0][0]}; give every frame its own name"
            )
        sizes = {pixel_size(path): path for path in reversed(self.paths)}
        height, width = first = pixel_size(self.paths[0])
        if len(sizes) > 1:
            odd = next(path for size, path in sizes.items() if size != first)
            raise UserError(f"{odd}: another size than the first frame's {width}x{height}; give frames of one video")
        factor = min(1.0, max_height / height)
        self.size_hw = (round(height * factor), max(round(width * factor), 1))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo:
        return resize_photo(np.array(decode_photo(self.paths[index], upright=False)[0]), self.size_hw)


def write_clip(out: Path, frames: FrameFolder, clip: Clip, settings: VideoSettings) -> dict[str, Any]:
    """Write a clip's masks; the folder's files appear when all are complete.

    ``auto_masks.json`` has InsScene-15K's form; ``masks/STEM.png`` has the ids of one frame, objects painted from large
    to small, 0 = none, object i = i + 1; ``curation.json`` the statistics and settings.

    Returns:
        Statistics: frames, objects, key frames, the mean share of pixels without an object.
    """
    numbers = range(len(frames))
    facts = {
        "frames": len(frames),
        "objects": len(clip.prompts),
        "key_frames": clip.key_frames,
        "without_object": round(sum(map(clip.uncovered_share, numbers)) / len(frames), 6),
    }
    with staged_folder(out) as staging:
        write_text(staging / "auto_masks.json", json.dumps(clip.to_json(settings.faithful)) + "\n")
        (staging / "masks").mkdir()
        for number, path in enumerate(frames.paths):
            ids = paint(((i, decode_rle(rle)) for i, rle in clip.masks[number].items()), clip.size_hw)
            write_pixels(staging / "masks" / f"{path.stem}.png", (ids + 1).astype(np.uint16))
        write_text(staging / SUMMARY, json.dumps(facts | {"settings": asdict(settings)}, indent=1) + "\n")
    return facts
