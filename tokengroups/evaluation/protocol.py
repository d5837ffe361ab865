"""The protocol of an evaluation: the words and the settings that its numbers stand for."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import tokengroups
from tokengroups.data.example import FramePlan
from tokengroups.evaluation.average_precision import LOOSE_THRESHOLD, MIN_PIXELS, THRESHOLDS
from tokengroups.evaluation.masks import ALPHA_THRESHOLD, STRUCTURE_CLASSES
from tokengroups.evaluation.retrieval_metrics import LOOSE_IOU, MIN_SHARE, STRICT_IOU

_CAMERAS = (
    "true ones relative to the first context camera, translations times one scale per scene: the median "
    "ratio of predicted to true point distances over the context views; true intrinsics"
)
_FEW_NAMES = 8  # a longer vocabulary is not spelt out


@dataclass(frozen=True)
class EvaluationData:
    """Which scenes and frames are evaluated, in the user's words."""

    name: str  # "procedural", a folder's name, or package.module:Class
    plan: FramePlan
    split: str | None = None  # None = all scenes
    seed: int | None = None  # of the procedural rooms
    given_intrinsics: bool = False  # of the photos; poses are never given


@dataclass(frozen=True)
class Protocol:
    """How the numbers came about: enough to repeat them, and to see what they may be compared with."""

    text: str  # the same for a reader
    data: str
    split: str | None
    seed: int | None
    num_scenes: int
    num_views: int
    given_intrinsics: bool
    postprocess: tuple[str, ...]  # names of the steps between photos and scene, in their order
    context_frames: tuple[int, ...]
    target_frames: tuple[int, ...]
    image_size_hw: tuple[int, int]
    data_sha256: str  # of all photos and instance maps
    weights: str
    target_cameras: str
    target_pixels_used: bool
    ap_thresholds: tuple[float, ...]
    ap_min_pixels: int
    ap_alpha_threshold: float
    ap_objects_void: tuple[str, ...]
    lpips: str | None
    vocabulary: tuple[str, ...] | None  # of open-vocabulary segmentation; None where no meaning was measured
    versions: dict[str, str]


def make_protocol(
    data: EvaluationData,
    weights: str,
    scene_names: Sequence[str],
    image_size_hw: tuple[int, int],
    data_sha256: str,
    lpips_trunk: str | None,
    vocabulary: tuple[str, ...] | None = None,
    postprocess: tuple[str, ...] = (),
) -> Protocol:
    """Write the protocol down."""
    text = _text(data, weights, len(scene_names), image_size_hw, postprocess)
    return Protocol(
        text=text if vocabulary is None else f"{text} {_semantics_text(vocabulary)}",
        data=data.name,
        split=data.split,
        seed=data.seed,
        num_scenes=len(scene_names),
        num_views=data.plan.num_views,
        given_intrinsics=data.given_intrinsics,
        postprocess=postprocess,
        context_frames=data.plan.context,
        target_frames=data.plan.targets,
        image_size_hw=image_size_hw,
        data_sha256=data_sha256,
        weights=weights,
        target_cameras=_CAMERAS,
        target_pixels_used=False,
        ap_thresholds=(*(round(threshold, 2) for threshold in THRESHOLDS), LOOSE_THRESHOLD),
        ap_min_pixels=MIN_PIXELS,
        ap_alpha_threshold=ALPHA_THRESHOLD,
        ap_objects_void=STRUCTURE_CLASSES,
        lpips=None if lpips_trunk is None else f"lpips 0.1, trunk {lpips_trunk}, images scaled to [-1, 1]",
        vocabulary=vocabulary,
        versions={
            "tokengroups": tokengroups.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )


def _text(
    data: EvaluationData, weights: str, num_scenes: int, image_size_hw: tuple[int, int], postprocess: tuple[str, ...]
) -> str:
    rooms = f"{num_scenes} scenes of {data.name}"
    if data.seed is not None:
        rooms = f"{num_scenes} {data.name} rooms (split {data.split}, seed {data.seed})"
    elif data.split is not None:
        rooms = f"{rooms} (split {data.split})"
    context, targets = (", ".join(map(str, frames)) for frames in (data.plan.context, data.plan.targets))
    height, width = image_size_hw
    given = "with given intrinsics and unknown poses" if data.given_intrinsics else "without cameras"
    return (
        f"{weights} on {rooms}, {width}x{height} pixels. Context: {data.plan.num_views} photos {given} "
        f"(frames {context}); rendered: frames {targets}. Their cameras: {_CAMERAS}; no target pixel touches "
        "the reconstruction or the cameras. Images: PSNR and SSIM per image on renders clipped to [0, 1], "
        "then the mean. AP: class-agnostic by ScanNet's rules (IoU above .50, .55, ... .90; void ignored), "
        "all target views of a scene as one vector of pixels, scenes pooled; masks: best group where "
        f"alpha > {ALPHA_THRESHOLD}, at least {MIN_PIXELS} pixels; score: mean probability inside. 'all': "
        f"every instance counts; 'objects': {', '.join(STRUCTURE_CLASSES)} are void. Oracle and planes + "
        "HDBSCAN regroup the same Gaussians. Depth and points: after the one scale, mean over the scenes; "
        f"cameras: median over the scenes. Post-processing: {', '.join(postprocess) or 'none'}."
    )


def _semantics_text(vocabulary: tuple[str, ...]) -> str:
    listed = f"{len(vocabulary)} names, listed in the JSON"
    if len(vocabulary) <= _FEW_NAMES:
        listed = ", ".join(vocabulary)
    return (
        f"Meaning: each labelled pixel, of whatever alpha, gets the name of largest cosine with its rendered feature "
        f"(vocabulary: {listed}); mIoU per class over the images with the class in truth or prediction, then over the "
        "classes; source views are the photos at their predicted cameras; a query (the name of an object class, or a "
        f"phrase unseen in training) is asked where its classes fill at least {MIN_SHARE:.0%} of the target views' "
        f"pixels, and the best group's mask must overlap one of their instances by IoU above {LOOSE_IOU} "
        f"(_50: {STRICT_IOU}), all queries of all scenes pooled."
    )
