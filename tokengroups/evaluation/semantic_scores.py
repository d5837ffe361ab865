"""What measuring meaning gives: one scene's counts and answers, and the numbers over a set of scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from tokengroups.evaluation.calibration import MatchPairs, calibration_error
from tokengroups.evaluation.retrieval_metrics import LOOSE_IOU, STRICT_IOU, Answers, recall
from tokengroups.evaluation.segmentation import ClassCounts, segmentation_scores

BYTES_PER_SCALAR = 4


@dataclass(frozen=True)
class SemanticSizes:
    """How much meaning a scene keeps, in scalars except where said."""

    units: int  # embeddings, L
    scalars: int  # L D + K d + D d
    scalars_per_gaussian: int  # N D, what one embedding per Gaussian would take


@dataclass(frozen=True)
class SceneSemantics:
    """One scene, in the form that can be pooled."""

    source: ClassCounts
    target: ClassCounts
    names: Answers
    names_pairs: MatchPairs
    unseen: Answers
    unseen_pairs: MatchPairs
    sizes: SemanticSizes
    query_ms: float
    search_ms: float
    search_ms_gaussians: float


@dataclass(frozen=True)
class SemanticScores:
    """Meaning over a set of scenes, under the names of the JSON; NaN where nothing was asked or labelled.

    mIoU without a variant in its name is `image_present` (see `SegmentationScores`).
    """

    miou_source: float  # photos, at their predicted cameras
    miou_target: float
    acc_source: float
    acc_target: float
    miou_source_dataset: float
    miou_target_dataset: float
    miou_source_image_zero: float
    miou_target_image_zero: float
    recall1_names: float  # the first answer's IoU is above 0.25
    recall1_unseen: float
    recall1_names_50: float
    recall1_unseen_50: float
    recall1_names_true_labels: float  # ceilings, see `Answers`
    recall1_unseen_true_labels: float
    recall1_names_true_groups: float
    recall1_unseen_true_groups: float
    calibration_error_names: float
    calibration_error_unseen: float
    semantic_units: float  # embeddings per scene, mean; so are the scalars
    semantic_scalars: float
    semantic_bytes: float
    semantic_scalars_per_gaussian_baseline: float
    query_ms: float  # median over the scenes
    search_ms: float
    search_ms_gaussians: float


def summarise_semantics(scenes: Sequence[SceneSemantics]) -> SemanticScores:
    """Pool pixels, queries and pairs of all scenes; at least one."""
    source = segmentation_scores([scene.source for scene in scenes])
    target = segmentation_scores([scene.target for scene in scenes])
    names, unseen = [scene.names for scene in scenes], [scene.unseen for scene in scenes]
    scalars = fmean(scene.sizes.scalars for scene in scenes)
    return SemanticScores(
        miou_source=source.image_present,
        miou_target=target.image_present,
        acc_source=source.accuracy,
        acc_target=target.accuracy,
        miou_source_dataset=source.dataset,
        miou_target_dataset=target.dataset,
        miou_source_image_zero=source.image_zero,
        miou_target_image_zero=target.image_zero,
        recall1_names=recall([answers.ious > LOOSE_IOU for answers in names]),
        recall1_unseen=recall([answers.ious > LOOSE_IOU for answers in unseen]),
        recall1_names_50=recall([answers.ious > STRICT_IOU for answers in names]),
        recall1_unseen_50=recall([answers.ious > STRICT_IOU for answers in unseen]),
        recall1_names_true_labels=recall([answers.ious_true_labels > LOOSE_IOU for answers in names]),
        recall1_unseen_true_labels=recall([answers.ious_true_labels > LOOSE_IOU for answers in unseen]),
        recall1_names_true_groups=recall([answers.hits_true_groups for answers in names]),
        recall1_unseen_true_groups=recall([answers.hits_true_groups for answers in unseen]),
        calibration_error_names=calibration_error([scene.names_pairs for scene in scenes]),
        calibration_error_unseen=calibration_error([scene.unseen_pairs for scene in scenes]),
        semantic_units=fmean(scene.sizes.units for scene in scenes),
        semantic_scalars=scalars,
        semantic_bytes=BYTES_PER_SCALAR * scalars,
        semantic_scalars_per_gaussian_baseline=fmean(scene.sizes.scalars_per_gaussian for scene in scenes),
        query_ms=median(scene.query_ms for scene in scenes),
        search_ms=median(scene.search_ms for scene in scenes),
        search_ms_gaussians=median(scene.search_ms_gaussians for scene in scenes),
    )
