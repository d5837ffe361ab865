"""What a scene looks like: shares and portraits of its groups, and its photos. They stay while the scene is edited.

All this is rendered or decoded, which takes longer than packing. So a scene is looked at once, and `Looks.after` knows
its groups again after edits, undo and redo: by their ids, and by the opacities and colours of their Gaussians, which
moving, turning, scaling, copying and regrouping leave as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt64
from torch import Tensor

from tokengroups.gaussians import footprints
from tokengroups.io.data_urls import cutout_url, photo_urls
from tokengroups.io.scene_photos import ScenePhoto
from tokengroups.scene.groups import gaussian_columns
from tokengroups.scene.views import Watch, render_cutouts, visible_shares
from tokengroups.types import Gaussians, TokenScene

MOST_PORTRAITS = 32  # groups that have one: those of the largest shares
PORTRAIT_PX = 64
PORTRAIT_CHARS = 32_000  # of all URLs of portraits: 33 KB of a page; a usual one has 1,200
PHOTO_BYTES = 74_000  # of all photos: 100 KB of a page
_QUICK = 50_000  # Gaussians of the portraits that are made after an edit, together: 0.1 s

_Key = tuple[int, int]  # a group's id, and the sum of the marks of its Gaussians
_Known = Mapping[_Key, str]


@dataclass(frozen=True)
class _Origin:
    """What the scene before all edits showed: of each group, and of its Gaussians."""

    groups: Mapping[_Key, float]
    marks: UInt64[np.ndarray, " M"]  # ascending, each once
    each: Float64[np.ndarray, " M"]  # share of a Gaussian of that mark


@dataclass(frozen=True)
class Looks:
    """Looks of a scene.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.viewer import look
        >>> looks = look(tg.example_scene())
        >>> [round(share, 2) for share in looks.shares.tolist()]
        [0.17, 0.12, 0.07]
        >>> edited = tg.merge(tg.example_scene(), ["box", "ball"])
        >>> [round(share, 2) for share in looks.after(edited).shares.tolist()]
        [0.17, 0.19]
    """

    shares: Float[Tensor, " L"]  # of all pixels of the context views, by column
    portraits: tuple[str | None, ...]  # data URLs of squares of 64 pixels without a background, by column
    photos: tuple[str | None, ...]  # data URLs of what the context views saw; empty where no photo is known
    origin: _Origin = field(repr=False)
    known: _Known = field(repr=False)  # all portraits that were made

    def after(self, scene: TokenScene) -> Looks:
        """Looks after edits; no context view is rendered.

        An untouched or moved group keeps its share. Parts of groups, merged groups and copies have what their Gaussians
        had, by opacity times area; what comes from elsewhere has none. Only groups that are new or made of other
        Gaussians get new portraits, as many as are quick.
        """
        marks, columns = _marks(scene.gaussians), gaussian_columns(scene).numpy()
        keys = _keys(scene, marks, columns)
        place = np.searchsorted(self.origin.marks, marks).clip(max=len(self.origin.marks) - 1)
        each = np.where(self.origin.marks[place] == marks, self.origin.each[place], 0)
        sums = np.bincount(columns, each, len(keys)).tolist()
        shares = torch.tensor([self.origin.groups.get(key, total) for key, total in zip(keys, sums, strict=True)])
        known = _with_portraits(self.known, scene, keys, shares, _QUICK)
        return replace(self, shares=shares, portraits=_chosen(known, keys, shares), known=known)

    def anew(self, before: TokenScene, scene: TokenScene) -> Looks:
        """Looks of a scene that takes another's place; it has the same photos if it has the same context views."""
        pairs = zip(vars(before.cameras).values(), vars(scene.cameras).values(), strict=True)
        same = all(torch.equal(*map(torch.as_tensor, pair)) for pair in pairs)
        return replace(look(scene), photos=self.photos if same else ())


def look(
    scene: TokenScene,
    photos: Sequence[ScenePhoto] = (),
    watch: Watch = lambda items, total, what: items,  # noqa: ARG005
) -> Looks:
    """Render the context views and the portraits of groups, and read the photos.

    Portraits are of the 32 groups with the largest shares, of fewer where these are worth more than 33 KB of a page.

    Args:
        scene: On the CPU.
        photos: One for each context view, or none.
        watch: Shows progress.

    Raises:
        UserError: A photo cannot be read, or has another shape than the one that the scene was made from.
    """
    urls = photo_urls(photos, scene.cameras.size_hw, PHOTO_BYTES, watch)
    shares = visible_shares(scene, watch)
    marks, columns = _marks(scene.gaussians), gaussian_columns(scene).numpy()
    keys = _keys(scene, marks, columns)
    known = _with_portraits({}, scene, keys, shares, len(marks))
    weights = footprints(scene.gaussians).numpy() + np.finfo(np.float32).tiny  # some groups have opacity 0
    totals = np.bincount(columns, weights, len(keys))
    found, place, counts = np.unique(marks, return_inverse=True, return_counts=True)
    each = np.bincount(place, shares.double().numpy()[columns] * weights / totals[columns]) / counts
    origin = _Origin(dict(zip(keys, shares.tolist(), strict=True)), found, each)
    return Looks(shares, _chosen(known, keys, shares), urls, origin, known)


def _ranked(shares: Float[Tensor, " L"]) -> list[int]:
    """Columns of the groups that may have a portrait, the largest share first."""
    return shares.argsort(descending=True, stable=True)[:MOST_PORTRAITS].tolist()


def _with_portraits(
    known: _Known, scene: TokenScene, keys: Sequence[_Key], shares: Float[Tensor, " L"], most: int
) -> _Known:
    """Add the portraits that are missing, until they have so many Gaussians together."""
    counts = torch.bincount(gaussian_columns(scene), minlength=len(keys)).tolist()
    missing = []
    for column in _ranked(shares):
        if keys[column] not in known and 0 < counts[column] <= most:
            missing.append(column)
            most -= counts[column]
    portraits = map(cutout_url, render_cutouts(scene, missing, PORTRAIT_PX))
    return {**known, **dict(zip((keys[column] for column in missing), portraits, strict=True))}


def _chosen(known: _Known, keys: Sequence[_Key], shares: Float[Tensor, " L"]) -> tuple[str | None, ...]:
    """Portraits by column, the largest share first, until they are as large as a page has room for."""
    chosen: dict[int, str] = {}
    room = PORTRAIT_CHARS
    for column in _ranked(shares):
        portrait = known.get(keys[column])
        if portrait is not None and len(portrait) <= room:
            chosen[column] = portrait
            room -= len(portrait)
    return tuple(chosen.get(column) for column in range(len(keys)))


def _keys(scene: TokenScene, marks: UInt64[np.ndarray, " N"], columns: np.ndarray) -> list[_Key]:
    sums = np.zeros(len(scene.group_ids), np.uint64)
    np.add.at(sums, columns, marks)
    return list(zip(scene.group_ids.tolist(), sums.tolist(), strict=True))


def _marks(gaussians: Gaussians) -> UInt64[np.ndarray, " N"]:
    """A number for each Gaussian that hardly another one has, from its opacity and mean colour."""
    values = torch.cat([gaussians.opacities[:, None], gaussians.sh[:, 0]], dim=1).double().numpy()
    marks = np.zeros(len(values), np.uint64)
    for bits in np.ascontiguousarray(values.T).view(np.uint64):
        marks = _mixed(marks ^ bits)
    return marks


def _mixed(words: UInt64[np.ndarray, " N"]) -> UInt64[np.ndarray, " N"]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), after which all bits depend on all."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
