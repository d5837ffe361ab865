"""Edits of what a group is: its name, and groups that become one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.editing.base import Edit, record
from tokengroups.editing.selection import find_column, find_columns
from tokengroups.editing.values import Selector, parse_group
from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.scene.groups import gaussian_columns, opacity_weights
from tokengroups.types import Semantics, TokenScene

_RIVAL_SHARE = 0.49  # of what a column and the owner of an anchor have together, which leaves no doubt about the owner


def rename(scene: TokenScene, group: Selector, name: Any) -> TokenScene:
    """Give a group a name, a text; "" takes its name away.

    Raises:
        UserError: An unknown group, or a name that would be read as an id or an option (``7``, ``-lamp``), or that no
            command line can hold (NUL).

    Example:
        >>> import tokengroups as tg
        >>> tg.rename(tg.example_scene(), "box", "red crate").group_names
        ('floor', 'red crate', 'ball')
    """
    group, column = find_column(scene, group)
    name = _check_name(name)
    names = list(scene.group_names or [""] * len(scene.group_ids))
    names[column] = name
    renamed = replace(scene, group_names=tuple(names) if any(names) else ())
    return record(renamed, "rename", group=group, name=name)


def merge(scene: TokenScene, groups: Selector | Iterable[Selector]) -> TokenScene:
    """Make one group of several. It keeps the id and the name of the first.

    Probabilities add up. An anchor of another group stays with it: where the sum would be more, the merged group
    gets 49 % of what the two have together. Group token, score and embedding become means, weighted by the opacity
    of the groups' Gaussians; unknown scores and embeddings do not count.

    Raises:
        UserError: An unknown group, or fewer than two.

    Example:
        >>> import tokengroups as tg
        >>> merged = tg.merge(tg.example_scene(), ["ball", "box"])
        >>> dict(zip(merged.group_ids.tolist(), merged.group_names))
        {1: 'floor', 3: 'ball'}
    """
    found = dict(find_columns(scene, groups))
    if len(found) < 2:
        raise UserError("merge: give two groups or more")
    columns = torch.tensor(list(found.values()), device=scene.assignment.device)
    first = int(columns[0])
    stay = [column for column in range(len(scene.group_ids)) if column == first or column not in found.values()]
    weights = _opacity_shares(scene, columns)
    merged = replace(
        scene,
        assignment=_add_up(scene.assignment, columns)[:, stay],
        group_ids=scene.group_ids[stay],
        group_tokens=_with_mean(scene.group_tokens, columns, weights)[stay],
        group_names=tuple(scene.group_names[column] for column in stay) if scene.group_names else (),
        semantics=scene.semantics and _merge_embeddings(scene.semantics, columns, weights, stay),
        group_scores=None if scene.group_scores is None else _merge_scores(scene.group_scores, columns, weights)[stay],
    )
    return record(merged, "merge", groups=list(found))


def with_owners(assignment: Float[Tensor, "K L"], owners: Int64[Tensor, " K"]) -> Float[Tensor, "K L"]:
    """Make a column the most probable of each row: where another is as large, it gets 49 % of their sum, at most.

    No third column may be larger than the owner's.
    """
    at = owners[:, None]
    own = assignment.gather(1, at)
    rival, other = assignment.scatter(1, at, -1.0).max(dim=1, keepdim=True)
    both = own + rival
    rival = torch.where(rival >= own, _RIVAL_SHARE * both, rival)
    changed = assignment.scatter(1, other, rival)
    return changed.scatter(1, at, torch.where(rival < assignment.gather(1, other), both - rival, own))


def _check_name(name: Any) -> str:
    """A name on one line that a command line can hold, and that nothing else is written like."""
    text = " ".join(name.split()) if isinstance(name, str) else None
    try:
        if text is not None and (not text or isinstance(parse_group(text), str)):
            text.encode("utf-8", "surrogateescape")  # as arguments of programs; a lone surrogate raises ValueError
            if "\0" not in text:
                return text
    except ValueError:
        pass
    raise UserError(
        "rename: the name must be a text that is neither a number nor begins with '-', without NUL, got "
        f"{shown(repr(name))}"
    )


def _add_up(assignment: Float[Tensor, "K L"], columns: Int64[Tensor, " l"]) -> Float[Tensor, "K L"]:
    """Put the sum of columns into the first of them."""
    owners = assignment.argmax(dim=1)
    owners = torch.where(torch.isin(owners, columns), columns[0], owners)
    added = assignment.index_fill(1, columns, 0)
    added[:, columns[0]] = assignment[:, columns].sum(dim=1)
    return with_owners(added, owners)


def _opacity_shares(scene: TokenScene, columns: Int64[Tensor, " l"]) -> Float[Tensor, " l"]:
    """Shares of groups in the sum of their Gaussians' opacities, float64."""
    totals = scene.gaussians.opacities.new_zeros(len(scene.group_ids), dtype=torch.float64)
    totals = totals.index_add(0, gaussian_columns(scene), scene.gaussians.opacities.double())
    return opacity_weights(totals[columns])


def _with_mean(
    values: Float[Tensor, "L D"], rows: Int64[Tensor, " l"], weights: Float[Tensor, " l"]
) -> Float[Tensor, "L D"]:
    """Replace the first of some rows by their weighted mean."""
    mean = (values[rows].double() * weights[:, None]).sum(dim=0)
    return values.index_copy(0, rows[:1], mean[None].to(values))


def _merge_embeddings(
    semantics: Semantics, columns: Int64[Tensor, " l"], weights: Float[Tensor, " l"], stay: list[int]
) -> Semantics:
    embeddings = _with_mean(semantics.embeddings, columns, weights)
    first = int(columns[0])
    embeddings[first] = torch.nn.functional.normalize(embeddings[first], dim=0)  # zero, the unknown, stays zero
    return replace(semantics, embeddings=embeddings[stay])


def _merge_scores(
    scores: Float[Tensor, " L"], columns: Int64[Tensor, " l"], weights: Float[Tensor, " l"]
) -> Float[Tensor, " L"]:
    known = weights * (scores[columns] > 0)
    mean = (scores[columns].double() * known).sum() / known.sum().clamp(min=torch.finfo(known.dtype).tiny)
    return scores.index_copy(0, columns[:1], mean[None].to(scores))


@dataclass(frozen=True)
class Rename(Edit):
    """Command-line form of `rename`."""

    FORM = "GROUP NAME"
    HELP = "give a group a name; '' takes it away"
    DONE = "named {groups} '{name}'"
    FUNCTION = staticmethod(rename)
    name: str

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the group and its name."""
        if len(words) != 2:
            raise ValueError(f"2 arguments expected, {len(words)} found; quote a name of several words")
        return cls((parse_group(words[0]),), words[1])


@dataclass(frozen=True)
class Merge(Edit):
    """Command-line form of `merge`."""

    FORM = "GROUP [GROUP ...]"
    HELP = "make one group of several, which keeps the first one's id and name"
    DONE = "merged {groups}"
    FUNCTION = staticmethod(merge)

    def apply(self, scene: TokenScene) -> TokenScene:
        """Merge all groups at once."""
        return self.FUNCTION(scene, self.ids)
