"""Evaluation of a reconstruction model on scenes with true cameras, depth and instances.

The model gets the context photos without their poses. The target views are then rendered from their true cameras,
expressed in the frame of the first context camera and multiplied by one scale per scene, which comes from the points of
the context views. No target pixel is used for the reconstruction or the cameras. Three groupings of the same Gaussians
are scored from one rendering: the model's, the oracle's and that of planes + HDBSCAN.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.alignment import align_cameras
from tokengroups.data.example import Example
from tokengroups.errors import UserError
from tokengroups.evaluation.class_precision import named_overlaps
from tokengroups.evaluation.geometry_metrics import geometry_metrics
from tokengroups.evaluation.masks import GroupMasks, group_masks, group_overlaps, render_features
from tokengroups.evaluation.metrics import Metric
from tokengroups.evaluation.open_vocabulary import ClassOverlaps, measure_classes
from tokengroups.evaluation.photo_masks import names_of_masks, photo_masks, planes_of, track_numbers
from tokengroups.evaluation.protocol import EvaluationData, Protocol
from tokengroups.evaluation.results import EvaluationResult, SceneResult
from tokengroups.evaluation.semantic import SemanticEvaluation, measure_semantics
from tokengroups.geometry import transform_points, world_points
from tokengroups.losses.perceptual import Lpips
from tokengroups.losses.photometric import psnr, ssim
from tokengroups.postprocess import Reconstruction
from tokengroups.render import RenderOutput
from tokengroups.scene.groups import columns_of
from tokengroups.ties import ascending
from tokengroups.types import Cameras, Views, stack

Predict = Callable[..., Reconstruction]  # photos [V,3,H,W], and `intrinsics` where they are known
_SAME_DISTANCE = 1e-6  # of the largest: cameras on a line or a circle are equally near but for rounding


@torch.no_grad()
def evaluate_scenes(
    predict: Predict,
    scenes: Iterable[Example],
    data: EvaluationData,
    weights: str,
    perceptual: Lpips | None = None,
    semantics: SemanticEvaluation | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> EvaluationResult:
    """Reconstruct, render and score every scene.

    Args:
        predict: Photos [V,3,H,W] in [0,1] to a reconstruction; takes the keyword `intrinsics` [V,3,3] if given.
        scenes: At least one unbatched example with its name and classes, consumed one by one.
        data: Origin of the scenes; for the protocol.
        weights: Name of the model's weights; for the protocol.
        perceptual: LPIPS; None or a random trunk leave it out.
        semantics: Text encoder and vocabulary. None leaves semantics out; a model without semantics has only ceilings.
        metrics: Further metrics by their names.

    Raises:
        ValueError: If there is no scene.
        UserError: If the depth of a scene is unknown.
    """
    if perceptual is not None and perceptual.trunk_is_random:
        perceptual = None
    results, digest, size_hw = [], hashlib.sha256(), (0, 0)
    for scene in scenes:
        for views in (scene.context, scene.targets):
            digest.update(views.images.cpu().numpy().tobytes())
            digest.update(views.group_ids.cpu().numpy().tobytes())
        size_hw = scene.targets.cameras.size_hw
        given = {"intrinsics": scene.context.cameras.intrinsics} if data.given_intrinsics else {}
        results.append(_evaluate_scene(partial(predict, **given), scene, perceptual, semantics, metrics or {}))
    if not results:
        raise ValueError("no scene to evaluate")
    protocol = Protocol(
        data=data,
        weights=weights,
        num_scenes=len(results),
        image_size_hw=size_hw,
        data_sha256=digest.hexdigest(),
        postprocess=results[0].steps,
        lpips_trunk=None if perceptual is None else perceptual.trunk,
        vocabulary=None if semantics is None else semantics.vocabulary,
        embeddings=_source_of_embeddings(semantics, results),
    )
    return EvaluationResult(protocol, tuple(results))


def target_cameras(prediction: Reconstruction, context: Views, targets: Cameras) -> tuple[Cameras, float]:
    """Express true target cameras in the world of a reconstruction, by one scale (see `align_cameras`).

    Args:
        prediction: The reconstruction.
        context: Its photos with true depth and cameras, unbatched.
        targets: True cameras.

    Returns:
        The cameras; the scale of the reconstruction in predicted units per metre.
    """
    predicted = prediction.scene.cameras
    first = predicted.cam_from_world[0]
    points = world_points(prediction.depth, predicted.cam_from_world, predicted.intrinsics)
    points = transform_points(first, points.flatten(0, 2)).reshape(1, *points.shape)
    cameras, scale = align_cameras(stack([targets]), stack([context]), points)
    return Cameras(cameras.cam_from_world[0] @ first, cameras.intrinsics[0], cameras.size_hw), scale.item()


def oracle_groups(
    group_ids: Int64[Tensor, "V H W"], anchor_pixels: Int64[Tensor, "K 3"]
) -> tuple[Float[Tensor, "K M"], Int64[Tensor, " M"]]:
    """Assign every anchor to the true instance at its photo pixel: the ceiling of any grouping.

    Args:
        group_ids: True instances of the context views.
        anchor_pixels: View, row and column of every anchor's photo pixel.

    Returns:
        One-hot assignment, and the instance id of every column (-1 = unlabelled, if an anchor is).
    """
    ids, column = group_ids[anchor_pixels.unbind(-1)].unique(return_inverse=True)
    return functional.one_hot(column, len(ids)).float(), ids


def nearest_view_psnr(context: Views, targets: Views) -> float:
    """Mean PSNR of predicting each target by the context photo with the nearest camera centre; the first of equals."""
    centres = [torch.linalg.inv(views.cameras.cam_from_world.double())[:, :3, 3] for views in (context, targets)]
    distances = torch.linalg.vector_norm(centres[1][:, None] - centres[0], dim=-1).cpu().numpy()
    nearest = [int(ascending(row, _SAME_DISTANCE * float(distances.max()), 1)[0]) for row in distances]
    return psnr(context.images[nearest], targets.images).mean().item()


def _evaluate_scene(
    predict: Predict,
    scene: Example,
    perceptual: Lpips | None,
    evaluation: SemanticEvaluation | None,
    metrics: Mapping[str, Metric],
) -> SceneResult:
    if not bool((scene.context.depth > 0).any()):
        raise UserError(f"scene {scene.names[0]}: its depth is unknown, so the scale of its cameras is too; add depth")
    start = time.perf_counter()
    prediction = predict(scene.context.images)
    if prediction.depth.is_cuda:
        torch.cuda.synchronize(prediction.depth.device)
    seconds = time.perf_counter() - start
    located = scene.to(prediction.depth.device)
    context, targets = located.context, located.targets
    cameras, scale = target_cameras(prediction, context, targets.cameras)
    planes = planes_of(prediction.scene.anchors)
    rendered, masks, coefficients = _render_groupings(prediction, context.group_ids, cameras, planes)
    photos = photo_masks(prediction, planes)
    tracks = track_numbers({name: labels for name, (_, labels) in photos.items()}, prediction.photo_groups, context)
    photo_ids = context.group_ids.cpu().numpy()
    images = rearrange(rendered.colors, "t h w c -> t c h w").clamp(0, 1)
    geometry = geometry_metrics(prediction.depth, prediction.scene.cameras, context.depth, context.cameras)
    ids, semantics = targets.group_ids.cpu().numpy(), None
    if evaluation is not None and coefficients is not None:
        semantics = measure_semantics(evaluation, prediction.scene, scene, coefficients, masks[""].masks)
    return SceneResult(
        name=scene.names[0],
        scale=scale,
        numbers={
            "psnr": psnr(images, targets.images).mean().item(),
            "ssim": ssim(images.double(), targets.images.double()).float().mean().item(),
            "lpips": math.nan if perceptual is None else perceptual(images, targets.images).mean().item(),
            "psnr_nearest_view": nearest_view_psnr(context, targets),
            **asdict(geometry),
            **tracks,
            "groups_used": masks[""].num_large,
            "seconds_per_scene": seconds,
        },
        overlaps={grouping: group_overlaps(each, ids, scene.classes[0]) for grouping, each in masks.items()},
        photo_overlaps={name: group_overlaps(each, photo_ids, scene.classes[0]) for name, (each, _) in photos.items()},
        named_overlaps=named_overlaps(photos[""][0], names_of_masks(prediction), photo_ids, scene.classes[0]),
        semantics=semantics,
        classes=_classes(prediction, photos[""][1], located, evaluation),
        metrics={name: metric(images, prediction, located) for name, metric in metrics.items()},
        steps=tuple(step["name"] for step in prediction.scene.provenance.get("postprocess", ())),
    )


def _classes(
    prediction: Reconstruction, labels: Int64[Tensor, "V H W"], scene: Example, evaluation: SemanticEvaluation | None
) -> dict[str, ClassOverlaps]:
    """Classes on the photos by the labels of their pixels; nothing without a text encoder."""
    if evaluation is None:
        return {}
    columns = labels if prediction.photo_groups is None else columns_of(prediction.scene, labels)
    encoder, vocabulary = evaluation.encoder, evaluation.vocabulary
    return measure_classes(prediction, columns, scene.context, scene.classes[0], encoder, vocabulary)


def _source_of_embeddings(semantics: SemanticEvaluation | None, results: Sequence[SceneResult]) -> str | None:
    if semantics is None or all(result.semantics is None for result in results):
        return None
    return f"mean features of the photos by {semantics.encoder.name}" if semantics.pooled else "predicted"


def _render_groupings(
    prediction: Reconstruction, context_ids: Int64[Tensor, "V H W"], cameras: Cameras, planes: Float[Tensor, "K m"]
) -> tuple[RenderOutput, dict[str, GroupMasks], Float[Tensor, "T H W n"] | None]:
    """Render the target views once.

    Returns:
        Colours; masks by every one of `GROUPINGS` of the same anchors; coefficients of semantics, None without them.
    """
    scene = prediction.scene
    oracle, oracle_ids = oracle_groups(context_ids, prediction.anchor_pixels)
    channels = [scene.assignment, oracle, planes]
    if scene.semantics is not None:
        channels.append(scene.semantics.residuals)
    rendered, features = render_features(scene, cameras, torch.cat(channels, dim=-1))
    parts = features.split([part.shape[1] for part in channels], dim=-1)
    model, by_oracle, by_planes = (group_masks(part, rendered.alphas) for part in parts[:3])
    labelled = (oracle_ids >= 0).cpu().numpy()
    by_oracle = GroupMasks(by_oracle.masks[labelled], by_oracle.confidences[labelled])
    coefficients = None if scene.semantics is None else torch.cat([parts[0], parts[3]], dim=-1)
    return rendered, {"": model, "_oracle": by_oracle, "_planes_hdbscan": by_planes}, coefficients
