"""Instances, classes and depth of photos by any system, ready to be moved to the points of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tokengroups.data.readers.scannet_labels import plain_name
from tokengroups.encoders import Encoder, load_encoder
from tokengroups.errors import UserError
from tokengroups.evaluation.scannet_instances import Ranking
from tokengroups.evaluation.vertex_masks import LabelMasks, Masks, QueryMasks
from tokengroups.reading import shown
from tokengroups.segmentation import segment_photos
from tokengroups.systems import SceneSystem
from tokengroups.systems.segvggt.decode import QueryInstances, find_instances
from tokengroups.systems.segvggt.system import FEATURES, LOGITS, QUERIES, SegVGGT


@dataclass(frozen=True)
class PhotoInstances:
    """A system's answer for the photos of one scene."""

    masks: Masks
    agnostic: Ranking
    aware: Ranking | None  # None = the system knows none of the classes
    depth: Tensor  # [V, H, W]


@torch.no_grad()
def find_photo_instances(system: SceneSystem, photos: Tensor, names: Sequence[str]) -> PhotoInstances:
    """Overlapping masks of instance queries with classes; of other systems one label per pixel, without.

    Args:
        system: In evaluation mode.
        photos: On the system's device.
        names: Classes of the truth.
    """
    if not isinstance(system, SegVGGT):
        found = segment_photos(system, photos)
        columns = torch.searchsorted(found.ids, found.labels.clamp(min=0).contiguous())
        labels = torch.where(found.labels >= 0, columns, -1).to(photos.device)
        ranking = Ranking(np.arange(len(found.ids)), found.scores.double().numpy())
        return PhotoInstances(LabelMasks(labels, len(found.ids)), ranking, None, found.depth)
    geometry = system.begin(photos, None, ()).geometry
    queries, features, logits = (geometry.evidence[name] for name in (QUERIES, FEATURES, LOGITS))
    assert isinstance(queries, Tensor) and isinstance(features, Tensor) and isinstance(logits, Tensor)
    decoding = system.decoding
    aware = find_instances(queries, features, logits, replace(decoding, class_agnostic=False))
    agnostic = find_instances(queries, features, logits, replace(decoding, class_agnostic=True))
    return PhotoInstances(
        QueryMasks(queries, features, decoding.mask_threshold),
        _ranking(agnostic),
        _with_classes(aware, class_map(system, names)),
        geometry.depth,
    )


def class_map(system: SegVGGT, names: Sequence[str]) -> np.ndarray:
    """Row of every class of the system among the names; -1 = it is not among them."""
    rows = {plain_name(name): row for row, name in enumerate(names)}
    return np.array([rows.get(plain_name(name), -1) for name in system.config.class_names])


def encoder_before(system: SceneSystem, source: str | None, own: str | None) -> Encoder | None:
    """The encoder as it was before the system was trained; None = it is the system's own, or unknown.

    Args:
        system: The system.
        source: What the user calls it; None = of weights with LoRA the encoder that they name.
        own: What the user gave in its place.
    """
    if source is not None:
        encoder = load_encoder(source)
        if system.size_multiple % encoder.patch_size:
            what = f"its patches of {encoder.patch_size} pixels do not fit photos for these weights"
            raise UserError(f"--before {shown(source)}: {what}; give the encoder that they were trained from")
        return encoder
    adapted = isinstance(system, SegVGGT) and system.config.network.lora_rank > 0 and not system.licence
    return load_encoder(own or str(system.encoder_source), typed=own is not None) if adapted else None


def _ranking(found: QueryInstances) -> Ranking:
    return Ranking(found.queries.cpu().numpy(), found.scores.double().cpu().numpy())


def _with_classes(found: QueryInstances, rows: np.ndarray) -> Ranking | None:
    """Predictions of classes that are among the names."""
    if (rows < 0).all():
        return None
    own = rows[found.classes.cpu().numpy()]
    plain = _ranking(found)
    return Ranking(plain.masks[own >= 0], plain.scores[own >= 0], own[own >= 0])
