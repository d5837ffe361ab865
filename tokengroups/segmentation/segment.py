"""Instances of photos by any system, beside cameras and depth, without a scene where the system needs none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.evaluation.photo_masks import rendered_groups
from tokengroups.postprocess import Draft, Step, run_steps
from tokengroups.systems import SceneSystem, registrations_of
from tokengroups.types import Cameras, TensorFields

NOTHING_FOUND = "no instance is found in the photos"


@dataclass(frozen=True)
class Segmentation(TensorFields):
    """Instances of photos, the same in all of them, with the photos' geometry."""

    labels: Int64[Tensor, "V H W"]  # id of the instance at every pixel; -1 = none
    ids: Int64[Tensor, " M"]  # those of the scene that `reconstruct` makes
    scores: Float[Tensor, " M"]  # the larger, the more certain is the mask
    names: tuple[str, ...]  # one per instance, "" = unnamed; empty = none named
    cameras: Cameras  # batch axis V; the world is the camera of the first photo
    depth: Float[Tensor, "V H W"]  # z, up to one factor for the whole scene
    unrelated: tuple[int, ...]  # photos that do not fit the others, by their indices
    steps: tuple[Step, ...]  # those that ran: without a scene there is nothing to change after decoding
    seconds: Mapping[str, float]  # wall time of "masks" and of "geometry"


@torch.no_grad()
def segment_photos(
    model: SceneSystem,
    photos: Float[Tensor, "V 3 H W"],
    intrinsics: Float[Tensor, "V 3 3"] | None = None,
    steps: Sequence[Step] | None = None,
    fps_start: SupportsIndex | None = None,
    mask: Bool[Tensor, "V H W"] | None = None,
    full_photos: Float[Tensor, "V 3 F G"] | None = None,
) -> Segmentation:
    """Segment the photos of one scene, and predict their cameras and depth.

    A system that segments photos needs neither the steps nor Gaussians for its masks. Of any other one, a rendering of
    the scene shows them. The encoder's time counts as the masks' in the first case, as the geometry's in the second.

    Args:
        model: The system.
        photos: As `SceneSystem.predict` takes them, like the other arguments.
        intrinsics: Of the photos, where they are given.
        steps: Post-processing; None = the system's own.
        fps_start: Candidate that farthest-point sampling starts from.
        mask: Pixels that count; others have no instance. None = all.
        full_photos: The photos with more pixels, if there are such; cameras and depth are more precise with them.

    Raises:
        ValueError: Photos or intrinsics of another type, shape, range or device.
        UserError: A step that the encoder cannot serve.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.segmentation import segment_photos
        >>> found = segment_photos(tg.load_model(), torch.rand(2, 3, 128, 128), steps=())  # noise
        >>> found.labels.shape, found.depth.shape
        (torch.Size([2, 128, 128]), torch.Size([2, 128, 128]))
    """
    steps = model.steps if steps is None else tuple(steps)
    clock = _Clock(photos.device)
    draft = model.begin(photos, intrinsics, steps, fps_start, mask, full_photos)
    if model.masks_need_steps:
        draft = run_steps(draft, steps, "before_decoding")
        clock.lap("geometry")
    groups = model.segment(draft)
    if groups is None:
        return _from_scene(model, draft, steps, clock)
    clock.lap("masks")
    if not model.masks_need_steps:
        draft = run_steps(draft, steps, "before_decoding")
        clock.lap("geometry")
    ids = torch.arange(len(groups.scores), device=groups.scores.device)
    ran, geometry = tuple(step for step in steps if step.when == "before_decoding"), draft.geometry
    found, unrelated = (groups.labels, ids, groups.scores, groups.names), _unrelated(draft, steps)
    return Segmentation(*found, geometry.cameras, geometry.depth, unrelated, ran, dict(clock.seconds)).to("cpu")


def overlap_notes(found: Segmentation, names: Sequence[str]) -> list[str]:
    """Notes on photos that seem to have nothing in common with the others, by the photos' names."""
    if len(found.scores) == 0:
        return [NOTHING_FOUND, *_unrelated_notes(found.unrelated, names)]
    if len(names) < 2:
        return []
    views = [set(labels.unique().tolist()) - {-1} for labels in found.labels]
    others = [set().union(*(views[v] for v in range(len(views)) if v != view)) for view in range(len(views))]
    alone = [name for name, own, rest in zip(names, views, others, strict=True) if not own & rest]
    notes = []
    if len(alone) == len(names):
        notes.append("no instance is seen in two photos, so ids say nothing across photos; do the photos overlap?")
    elif alone:
        notes.append(f"{_some(alone)}: no instance that another photo shows, too")
    return notes + _unrelated_notes(found.unrelated, names)


def _unrelated_notes(unrelated: Sequence[int], names: Sequence[str]) -> list[str]:
    """A note on photos that do not fit the others, by their indices and the names of all photos."""
    some = _some([names[view] for view in unrelated])
    return [f"{some}: do not fit the other photos; without overlap, cameras and ids do not agree"] if some else []


def _unrelated(draft: Draft, steps: Sequence[Step]) -> tuple[int, ...]:
    """Photos that do not fit the others, by their indices."""
    return tuple(view for view, each in enumerate(registrations_of(draft, steps)) if not each.registered)


def _from_scene(model: SceneSystem, draft: Draft, steps: tuple[Step, ...], clock: _Clock) -> Segmentation:
    """Instances as a rendering of the scene at the photos' cameras shows them."""
    draft = run_steps(draft, steps, "before_decoding")
    unrelated = _unrelated(draft, steps)
    clock.lap("geometry")
    made = model.complete(draft, steps)
    ((columns, scores),) = rendered_groups(made.scene, [made.scene.assignment])
    labels = torch.where(columns >= 0, made.scene.group_ids[columns.clamp(min=0)], -1)
    if draft.geometry.mask is not None:
        labels = torch.where(draft.geometry.mask, labels, -1)
    clock.lap("masks")
    found, geometry = (labels, made.scene.group_ids, scores, made.scene.group_names), draft.geometry
    return Segmentation(*found, geometry.cameras, geometry.depth, unrelated, steps, dict(clock.seconds)).to("cpu")


class _Clock:
    """Wall time of the parts of a computation, on any device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, {"masks": 0.0, "geometry": 0.0}
        self.start = time.perf_counter()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to a part."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[part] += now - self.start
        self.start = now


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
