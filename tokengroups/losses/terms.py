"""A loss with its named parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LossTerms:
    """The scalar to minimise and its named, unweighted parts for the log."""

    total: Tensor
    terms: Mapping[str, Tensor]
