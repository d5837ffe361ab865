"""Protocol of an evaluation: the settings behind its numbers, in words and as JSON."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

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
    """Scenes and frames that are evaluated."""

    name: str  # "procedural", a folder's name, or package.module:Class
    plan: FramePlan
    split: str | None = None  # None = all scenes
    seed: int | None = None  # of the procedural rooms
    given_intrinsics: bool = False  # of the photos; poses are never given


@dataclass(frozen=True)
class Protocol:
    """Conditions of an evaluation: enough to repeat its numbers, and to see what they may be compared with."""

    data: EvaluationData
    weights: str
    num_scenes: int
    image_size_hw: tuple[int, int]
    data_sha256: str  # of all photos and instance maps
    postprocess: tuple[str, ...]  # names of the steps between photos and scene, in their order
    lpips_trunk: str | None
    vocabulary: tuple[str, ...] | None  # of open-vocabulary segmentation; None without a text encoder
    embeddings: str | None = None  # where those of the groups are from; None = they have none

    def to_json(self) -> dict[str, Any]:
        """Plain values under the documented names."""
        data, trunk = self.data, self.lpips_trunk
        return {
            "text": self.text(),
            "data": data.name,
            "split": data.split,
            "seed": data.seed,
            "num_scenes": self.num_scenes,
            "num_views": data.plan.num_views,
            "given_intrinsics": data.given_intrinsics,
            "postprocess": self.postprocess,
            "context_frames": data.plan.context,
            "target_frames": data.plan.targets,
            "image_size_hw": self.image_size_hw,
            "data_sha256": self.data_sha256,
            "weights": self.weights,
            "target_cameras": _CAMERAS,
            "target_pixels_used": False,
            "ap_thresholds": (*(round(threshold, 2) for threshold in THRESHOLDS), LOOSE_THRESHOLD),
            "ap_min_pixels": MIN_PIXELS,
            "ap_alpha_threshold": ALPHA_THRESHOLD,
            "ap_objects_void": STRUCTURE_CLASSES,
            "lpips": None if trunk is None else f"lpips 0.1, trunk {trunk}, images scaled to [-1, 1]",
            "vocabulary": self.vocabulary,
            "embeddings": self.embeddings,
            "versions": {
                "tokengroups": tokengroups.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    def text(self) -> str:
        """The protocol in words."""
        data, (height, width) = self.data, self.image_size_hw
        rooms = f"{self.num_scenes} scenes of {data.name}"
        if data.seed is not None:
            rooms = f"{self.num_scenes} {data.name} rooms (split {data.split}, seed {data.seed})"
        elif data.split is not None:
            rooms = f"{rooms} (split {data.split})"
        context, targets = (", ".join(map(str, frames)) for frames in (data.plan.context, data.plan.targets))
        given = "with given intrinsics and unknown poses" if data.given_intrinsics else "without cameras"
        return (
            f"{self.weights} on {rooms}, {width}x{height} pixels. Context: {data.plan.num_views} photos {given} "
            f"(frames {context}); rendered: frames {targets}. Their cameras: {_CAMERAS}; no target pixel is used for "
            "the reconstruction or the cameras. Images: PSNR and SSIM per image on renders clipped to [0, 1], "
            "then the mean. AP: class-agnostic by ScanNet's rules (IoU above .50, .55, ... .90; void ignored), "
            "all target views of a scene as one vector of pixels, scenes pooled; masks: best group where "
            f"alpha > {ALPHA_THRESHOLD}, at least {MIN_PIXELS} pixels; score: mean probability inside. 'all': "
            f"every instance counts; 'objects': {', '.join(STRUCTURE_CLASSES)} are void. Oracle and planes + "
            "HDBSCAN regroup the same Gaussians. Depth and points: after the one scale, mean over the scenes; "
            f"cameras: median over the scenes. Post-processing: {', '.join(self.postprocess) or 'none'}."
            f"{self._semantics_text()}"
        )

    def _semantics_text(self) -> str:
        if self.vocabulary is None:
            return ""
        listed = f"{len(self.vocabulary)} names, listed in the JSON"
        if len(self.vocabulary) <= _FEW_NAMES:
            listed = ", ".join(self.vocabulary)
        classes = (
            f" Classes on the photos (vocabulary: {listed}): the name of largest cosine with a group's embedding, for "
            "each of its pixels; 2D: labelled pixels, one confusion matrix over all scenes; 3D: their points after one "
            "similarity, the voxels of each class by themselves, 5 cm unless another side is named; true features: the "
            "embedding is the mean text embedding of the pixels' true classes."
        )
        if self.embeddings is None:
            return classes
        return classes + (
            f" Semantics (embeddings: {self.embeddings}): each labelled pixel, whatever its alpha, gets the name of "
            "largest cosine with its rendered feature; mIoU: per class over the images with the class in truth or "
            "prediction, then over the classes; source views: the photos at their predicted cameras; a query (the name "
            f"of an object class, or a phrase unseen in training) is asked where its classes fill {MIN_SHARE:.0%} or "
            "more of the target views' pixels, and the best group's mask must overlap one of their instances by IoU "
            f"above {LOOSE_IOU} (_50: {STRICT_IOU}), all queries of all scenes pooled."
        )
