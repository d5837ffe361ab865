"""Curation of a video: objects are proposed at key frames and followed through the clip.

Key frame 0 gives the first objects. The next key frame is the first one with more uncovered pixels than that; there,
proposals that are mostly uncovered become new objects, those that are followed are prompted with their masks once more,
and everything is followed again. When no frame is left, all go back from their first key frame to the start.

The method is AutoRefiner's, by the authors of IGGT. Ours differs in what `VideoSettings.faithful` turns back, and it
goes on to the next frame where the first one shows no object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tokengroups.data.curation.base import Frames, Mask, Progress, Propagator, Proposer, plain
from tokengroups.data.curation.suppression import SuppressionSettings, suppress
from tokengroups.data.instance_masks import decode_rle, encode_rle

Rle = dict[str, Any]


@dataclass(frozen=True)
class VideoSettings:
    """Settings of the curation of videos."""

    max_height: int = 1080  # px; higher frames are reduced
    min_stability: float = 0.85  # of a proposal
    crop_layers: int = 1  # proposals of crops too
    suppression: SuppressionSettings = SuppressionSettings()
    batch_size: int = 20  # objects that are followed together, of one key frame
    stride: int = 1  # frames from one that may become a key frame to the next
    growth: float = 0.01  # share of uncovered pixels by which a key frame exceeds the last one
    new_uncovered: float = 0.5  # more of a new object than this is uncovered
    new_area: int = 5000  # px; new objects at later key frames are larger
    faithful: bool = False  # masklet_num counts frames, as in the released files


@dataclass
class Clip:
    """Objects of a clip: masks as run lengths, by frame and object."""

    size_hw: tuple[int, int]
    masks: list[dict[int, Rle]]
    prompts: dict[int, dict[int, Rle]] = field(default_factory=dict)  # by object and frame
    key_frames: list[int] = field(default_factory=list)

    def is_covered(self, frame: int) -> Mask:
        """Pixels of a frame that belong to an object."""
        covered = np.zeros(self.size_hw, bool)
        for rle in self.masks[frame].values():
            covered |= decode_rle(rle)
        return covered

    def uncovered_share(self, frame: int) -> float:
        """Share of a frame's pixels that belong to no object."""
        return 1 - float(self.is_covered(frame).mean())

    def to_json(self, faithful: bool = False) -> dict[str, Any]:
        """Content of ``auto_masks.json`` (as SA-V's); object i of every frame is object i."""
        height, width = self.size_hw
        empty = encode_rle(np.zeros(self.size_hw, bool))
        objects = sorted(self.prompts)
        return {
            "video_frame_count": len(self.masks),
            "video_height": height,
            "video_width": width,
            "masklet_num": len(self.masks) if faithful else len(objects),
            "masklet_id": objects,
            "masklet_type": ["auto"] * len(objects),
            "masklet": [[masks.get(number, empty) for number in objects] for masks in self.masks],
        }


def curate_video(
    frames: Frames,
    proposer: Proposer,
    propagator: Propagator,
    settings: VideoSettings | None = None,
    progress: Progress = plain,
) -> Clip:
    """Find the objects of a clip and their masks in all frames.

    Args:
        frames: At least one, all of one size.
        proposer: Masks at key frames.
        propagator: Masks in the other frames.
        settings: None = the defaults.
        progress: Shows how many frames are done.
    """
    settings = settings or VideoSettings()
    height, width = frames[0].shape[:2]
    clip = Clip((height, width), [{} for _ in frames])
    key: int | None = 0
    while key is not None:
        clip.key_frames.append(key)
        proposals = proposer.propose(frames[key], settings.min_stability, settings.crop_layers)
        masks = [proposal.mask for proposal in suppress(proposals, settings.suppression)]
        new = _new_objects(masks, clip.is_covered(key), settings) if clip.prompts else masks
        if new:
            _add_prompts(clip, key, new)
            for followed in clip.masks:
                followed.clear()
            _follow(clip, frames, propagator, settings.batch_size, progress, reverse=False)
        key = _next_key_frame(clip, key, settings)
    _follow(clip, frames, propagator, settings.batch_size, progress, reverse=True)
    return clip


def _new_objects(masks: Sequence[Mask], covered: Mask, settings: VideoSettings) -> list[Mask]:
    """Masks that are large and mostly uncovered."""
    large = [mask for mask in masks if np.count_nonzero(mask) > settings.new_area]
    return [mask for mask in large if 1 - covered[mask].mean() > settings.new_uncovered]


def _add_prompts(clip: Clip, key: int, new: Sequence[Mask]) -> None:
    """Prompt what is seen at a key frame with its mask there, and new objects with theirs."""
    for number, rle in clip.masks[key].items():
        if decode_rle(rle).any():
            clip.prompts[number][key] = rle
    for number, mask in enumerate(new, start=len(clip.prompts)):
        clip.prompts[number] = {key: encode_rle(mask)}


def _next_key_frame(clip: Clip, key: int, settings: VideoSettings) -> int | None:
    """First frame after a key frame that is less covered; any frame while there is no object."""
    later = range(key + settings.stride, len(clip.masks), settings.stride)
    limit = clip.uncovered_share(key) + settings.growth if clip.prompts else -1.0
    return next((frame for frame in later if clip.uncovered_share(frame) > limit), None)


def _follow(
    clip: Clip, frames: Frames, propagator: Propagator, batch_size: int, progress: Progress, reverse: bool
) -> None:
    """Follow all objects in batches, each of one first key frame, forwards or back to the start."""
    batches: list[tuple[int, list[int]]] = []
    for key in clip.key_frames:
        born = [number for number, prompts in clip.prompts.items() if min(prompts) == key]
        if key > 0 or not reverse:
            batches += [(key, born[start : start + batch_size]) for start in range(0, len(born), batch_size)]
    total = sum(key + 1 if reverse else len(frames) - key for key, _ in batches)

    def found() -> Iterator[tuple[int, dict[int, Mask]]]:
        for _, batch in batches:
            prompts: dict[int, dict[int, Mask]] = {}
            for number in batch:
                for frame, rle in clip.prompts[number].items():
                    prompts.setdefault(frame, {})[number] = decode_rle(rle)
            yield from propagator.propagate(frames, prompts, reverse)

    what = f"{len(clip.prompts)} objects, {'back' if reverse else f'key frame {clip.key_frames[-1]}'}"
    for frame, masks in progress(found(), total, what):
        clip.masks[frame] |= {number: encode_rle(mask) for number, mask in masks.items()}
