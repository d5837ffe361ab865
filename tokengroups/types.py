"""Shared data types: dataclasses only, no mathematics.

Axes: B scenes, V views, K anchors, L groups, N Gaussians, S spherical-harmonics coefficients, H W pixels, P patches.
A leading ``*b`` stands for any batch axes. Conventions are defined in CONVENTIONS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

T = TypeVar("T", bound="TensorFields")


class TensorFields:
    """Base of dataclasses whose fields are tensors or such dataclasses: ``map``, ``to`` and ``detach``."""

    def map(self: T, function: Callable[[Tensor], Tensor]) -> T:
        """Apply `function` to every tensor, nested ones included; other fields stay as they are."""
        return _combine([self], lambda tensors: function(tensors[0]))

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """`torch.Tensor.to` for every tensor."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def detach(self: T) -> T:
        """`torch.Tensor.detach` for every tensor."""
        return self.map(lambda tensor: tensor.detach())


def stack(items: Sequence[T]) -> T:
    """Stack dataclasses of equal form along a new first axis; fields that are no tensors are the first one's."""
    return _combine(items, torch.stack)


def cat(items: Sequence[T]) -> T:
    """Join dataclasses of equal form along their first axis; fields that are no tensors are the first one's."""
    return _combine(items, torch.cat)


def _combine(values: Sequence[Any], function: Callable[[list[Tensor]], Tensor]) -> Any:
    """Apply `function` to the lists of corresponding tensors; other parts are those of the first value."""
    first = values[0]
    if isinstance(first, Tensor):
        return function(list(values))
    if isinstance(first, TensorFields):
        names = [f.name for f in fields(first)]  # pyright: ignore[reportArgumentType]
        changes = {name: _combine([getattr(value, name) for value in values], function) for name in names}
        return replace(first, **changes)  # pyright: ignore[reportArgumentType]
    if isinstance(first, tuple) and any(isinstance(item, Tensor) for item in first):
        return tuple(_combine(parts, function) for parts in zip(*values, strict=True))
    if isinstance(first, dict):
        return {name: _combine([value[name] for value in values], function) for name in first}
    return first


@dataclass(frozen=True)
class Cameras(TensorFields):
    """Pinhole cameras: OpenCV axes; intrinsics in pixels of `size_hw`, first pixel's centre at (0.5, 0.5).

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> pinhole = torch.tensor([[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]])
        >>> cameras = tg.Cameras(torch.eye(4)[None], pinhole[None], size_hw=(48, 64))
        >>> cameras.to(torch.float64).intrinsics.dtype
        torch.float64
    """

    cam_from_world: Float[Tensor, "*b 4 4"]
    intrinsics: Float[Tensor, "*b 3 3"]
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class Views(TensorFields):
    """Photos of one scene, or a batch of scenes, with their ground truth."""

    images: Float[Tensor, "*b V 3 H W"]  # in [0, 1]
    cameras: Cameras  # batch axes *b V
    depth: Float[Tensor, "*b V H W"]  # z, in metres; 0 = unknown
    group_ids: Int64[Tensor, "*b V H W"]  # the same instance has the same id in all views; -1 = unlabelled
    mask: Bool[Tensor, "*b V H W"] | None = None  # pixels whose colour counts; None = all

    def select(self, views: list[int]) -> Views:
        """Keep the views with these indices, in this order."""
        poses, intrinsics = self.cameras.cam_from_world[..., views, :, :], self.cameras.intrinsics[..., views, :, :]
        return Views(
            self.images[..., views, :, :, :],
            Cameras(poses, intrinsics, self.cameras.size_hw),
            self.depth[..., views, :, :],
            self.group_ids[..., views, :, :],
            None if self.mask is None else self.mask[..., views, :, :],
        )


@dataclass(frozen=True)
class SceneFrames:
    """Frames of one recorded or generated scene, in memory on the host; ``frames[1:9:2]`` selects some of them."""

    name: str
    images: UInt8[np.ndarray, "V H W 3"]
    depth: Float[np.ndarray, "V H W"]  # z in metres; 0 = unknown
    group_ids: np.ndarray  # integers [V, H, W]; -1 = unlabelled
    cam_from_world: Float[np.ndarray, "V 4 4"]  # metres
    intrinsics: Float[np.ndarray, "V 3 3"]
    instance_classes: dict[int, str]  # group id -> class name
    mask: Bool[np.ndarray, "V H W"] | None = None  # pixels whose colour counts; None = all

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, frames: slice) -> SceneFrames:
        return replace(
            self,
            images=self.images[frames],
            depth=self.depth[frames],
            group_ids=self.group_ids[frames],
            cam_from_world=self.cam_from_world[frames],
            intrinsics=self.intrinsics[frames],
            mask=None if self.mask is None else self.mask[frames],
        )


@dataclass(frozen=True)
class Gaussians(TensorFields):
    """3D Gaussians with gsplat's parameters and ranges.

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> red_ball = tg.Gaussians(
        ...     means=torch.tensor([[0.0, 0.0, 2.0]]),
        ...     quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        ...     scales=torch.full((1, 3), 0.1),
        ...     opacities=torch.tensor([0.9]),
        ...     sh=torch.tensor([[[1.0, -1.0, -1.0]]]),
        ... )
        >>> red_ball.map(lambda values: values[:0]).means.shape
        torch.Size([0, 3])
    """

    means: Float[Tensor, "*b N 3"]
    quats: Float[Tensor, "*b N 4"]  # wxyz, need not be unit length
    scales: Float[Tensor, "*b N 3"]  # standard deviations, linear
    opacities: Float[Tensor, "*b N"]  # in [0, 1]
    sh: Float[Tensor, "*b N S 3"]  # S = (degree + 1)^2; colour = 0.5 + sum over the basis


@dataclass(frozen=True)
class Semantics(TensorFields):
    """Semantics of a scene's groups: a pixel's feature is sum_l S_l s_l + W_r R, with S and R rendered."""

    embeddings: Float[Tensor, "L D"]  # s_l, of unit length; zero = unknown
    residuals: Float[Tensor, "K d"]  # r_k; d = 0 without residuals
    projection: Float[Tensor, "D d"]  # W_r
    calibration: Float[Tensor, "2"]  # (a, b): a text of cosine c applies to a group with p = sigmoid(a (c - b))
    encoder: str  # name of the text encoder whose space this is


@dataclass(frozen=True)
class TokenScene(TensorFields):
    """A reconstructed room made of token groups: the data that every tool shares.

    Group l is the set of anchors whose most probable group is l; a Gaussian belongs to its anchor's group.

    Example:
        >>> import tokengroups as tg
        >>> scene = tg.example_scene()
        >>> scene.assignment.shape  # anchors, groups
        torch.Size([613, 3])
        >>> owner = scene.group_ids[scene.assignment.argmax(dim=1)][scene.anchor_ids]  # of every Gaussian
        >>> owner.unique(return_counts=True)
        (tensor([1, 2, 3]), tensor([117, 296, 200]))
    """

    gaussians: Gaussians  # unbatched
    anchor_ids: Int64[Tensor, " N"]  # anchor of each Gaussian, values in [0, K)
    anchors: Float[Tensor, "K 3"]  # anchor positions in the scene's world
    assignment: Float[Tensor, "K L"]  # probabilities over the groups, rows sum to 1
    group_ids: Int64[Tensor, " L"]  # public, unique ids of the L columns; they survive edits
    group_tokens: Float[Tensor, "L D"]  # D = 0 for scenes that no model made
    cameras: Cameras  # context views, batch axis V
    group_names: tuple[str, ...] = ()  # one per group, "" = unnamed; empty = none named
    provenance: dict[str, Any] = field(default_factory=dict)  # JSON: weights, seed, photos, edits
    semantics: Semantics | None = None  # None = no semantics
    group_scores: Float[Tensor, " L"] | None = None  # the larger, the more certain; 0 = unknown; None = none known
