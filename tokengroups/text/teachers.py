"""Teachers of semantics: targets for the pixels of a scene's views, in the space of a text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.bounds import Between, Settings
from tokengroups.errors import UserError
from tokengroups.losses.semantics import TeacherTargets
from tokengroups.text.cache import EmbeddingCache
from tokengroups.text.encoders import ImageTeacher, load_text_encoder
from tokengroups.types import Views


@dataclass(frozen=True)
class SemanticsConfig(Settings):
    """Source of the groups' semantics in training; used if `losses.distillation` is positive."""

    text_encoder: str = "minilm"  # or a folder or hub id of CLIP or SigLIP
    teacher: Literal["labels", "images"] = "labels"  # images: patch features of a vision-language encoder
    views: Annotated[int, Between(0, 1000)] = 0  # number of rendered views that are distilled, evenly spaced; 0 = all
    only: bool = False  # train the semantic head alone, on token groups from `start_from`


class LabelTeacher:
    """Teacher for annotated data: the class name of a pixel's instance, embedded as text."""

    def __init__(self, cache: EmbeddingCache) -> None:
        self.cache = cache

    def targets(self, views: Views, classes: dict[int, str]) -> TeacherTargets:
        """Targets with a row per class; pixels of nameless instances are unknown."""
        names, name_idx = embed_names(self.cache, views, classes)
        return TeacherTargets(names, name_idx, names, name_idx)


class DenseTeacher:
    """Teacher for any photos: patch features of a vision-language encoder; augmented photos are not cached."""

    def __init__(self, cache: EmbeddingCache) -> None:
        if not isinstance(cache.encoder, ImageTeacher):
            raise UserError(
                f"semantics.teacher 'images' needs CLIP or SigLIP, but '{cache.name}' encodes text only; "
                "set semantics.text_encoder to one of them, or semantics.teacher to labels"
            )
        self.cache, self.encoder = cache, cache.encoder

    def targets(self, views: Views, classes: dict[int, str]) -> TeacherTargets:
        """Targets with a row per patch of every view, at the patch's central pixel."""
        features = self.encoder.encode_images(views.images).to(views.images)
        num_views, _, rows, columns = features.shape
        height, width = views.images.shape[-2:]
        if rows > height or columns > width:
            raise UserError(
                f"the image teacher gives {rows} x {columns} patches for photos of {height} x {width} pixels: "
                "raise data.size"
            )
        index = torch.full((num_views, height, width), -1, device=views.images.device)
        at_rows = ((torch.arange(rows) + 0.5) * (height / rows)).long()
        at_columns = ((torch.arange(columns) + 0.5) * (width / columns)).long()
        cells = torch.arange(num_views * rows * columns, device=index.device).view(num_views, rows, columns)
        index[:, at_rows[:, None], at_columns] = cells
        features = rearrange(features, "v d h w -> (v h w) d")
        return TeacherTargets(features, index, *embed_names(self.cache, views, classes))


Teacher = LabelTeacher | DenseTeacher


def embed_names(
    cache: EmbeddingCache, views: Views, classes: dict[int, str]
) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "V H W"]]:
    """Embeddings of a scene's class names, and the index of every pixel's name; -1 for nameless instances."""
    names = sorted(set(classes.values()))
    rows = {instance: names.index(name) for instance, name in classes.items()}
    return cache.encode_text(names).to(views.images), look_up(views.group_ids, rows)


def look_up(ids: Int64[Tensor, "*b"], rows: dict[int, int]) -> Int64[Tensor, "*b"]:
    """Row of every id; -1 for ids that have none."""
    table = torch.full((max([*rows, int(ids.max())], default=0) + 2,), -1, device=ids.device)
    for instance, row in rows.items():
        table[instance] = row
    return table[ids]  # -1 reads the last entry, which is -1


def load_teacher(config: SemanticsConfig) -> Teacher:
    """Load the teacher of a configuration.

    Raises:
        UserError: There is no such encoder, or it has to encode images and cannot.
    """
    cache = EmbeddingCache(load_text_encoder(config.text_encoder))
    return LabelTeacher(cache) if config.teacher == "labels" else DenseTeacher(cache)
