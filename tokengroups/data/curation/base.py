"""Interfaces of curation: what proposes masks in a photo and what follows them through a video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8

from tokengroups.errors import UserError
from tokengroups.registry import resolve

T = TypeVar("T")
Photo = UInt8[np.ndarray, "H W 3"]
Mask = Bool[np.ndarray, "H W"]
Progress = Callable[[Iterable[T], int, str], Iterable[T]]  # items, their number, what they are

PROPOSERS = {"sam2": "tokengroups.data.curation.sam2:Sam2Proposer"}
PROPAGATORS = {"sam2": "tokengroups.data.curation.sam2:Sam2Propagator"}


@dataclass(frozen=True)
class Proposal:
    """A mask that may be an object."""

    mask: Mask
    predicted_iou: float  # the segmenter's own estimate
    stability: float  # IoU of the mask at a higher and a lower threshold

    @property
    def score(self) -> float:
        """How much to trust it, in [0, 1]."""
        return self.predicted_iou * self.stability


@runtime_checkable
class Frames(Protocol):
    """Frames of a video, all of one size; each may be read when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Photo: ...


@runtime_checkable
class Proposer(Protocol):
    """Segmenter of everything in a photo; made as ``Class(weights, device)``."""

    def propose(self, photo: Photo, min_stability: float, crop_layers: int) -> list[Proposal]:
        """Propose masks, which may overlap.

        Args:
            photo: Of any size.
            min_stability: Less stable masks are not proposed.
            crop_layers: Also look at 4 crops (1), and 16 smaller ones (2).
        """
        ...


@runtime_checkable
class Propagator(Protocol):
    """Tracker of masks through a video; made as ``Class(weights, device)``."""

    def propagate(
        self, frames: Frames, prompts: Mapping[int, Mapping[int, Mask]], reverse: bool
    ) -> Iterator[tuple[int, dict[int, Mask]]]:
        """Follow objects from the first prompt's frame to the end of the clip, or back to its start.

        Args:
            frames: All frames.
            prompts: Masks by frame and object.
            reverse: From the first prompt's frame backwards.

        Yields:
            A frame, and the masks of all objects in it; they may be empty.
        """
        ...


def plain(items: Iterable[T], total: int, what: str) -> Iterable[T]:
    """Show no progress."""
    del total, what
    return items


def load_part(kind: str, name: str, weights: Path | None, device: str) -> Any:
    """Make a proposer or propagator by its name.

    Args:
        kind: "proposer" or "propagator".
        name: ``sam2``, or ``package.module:Class``.
        weights: Its folder.
        device: cpu or cuda.

    Raises:
        UserError: There is no such class, or its weights cannot be used.
    """
    table, protocol = (PROPOSERS, Proposer) if kind == "proposer" else (PROPAGATORS, Propagator)
    part = resolve(name, table, kind)(weights, device)
    if not isinstance(part, protocol):
        raise UserError(
            f"{kind} {name}: its class lacks a method; see tokengroups.data.curation.base.{protocol.__name__}"
        )
    return part
