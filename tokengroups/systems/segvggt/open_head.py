"""An open class head for SegVGGT: queries in the space of a text encoder, which the paper leaves as future work.

Class logits are cosines with the text embeddings of the class names. Names that no training had can be compared with
the same embeddings. B scenes, Q queries, D channels of the text space, K class names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.losses.query_masks import Matching, class_loss
from tokengroups.losses.query_targets import InstanceTargets
from tokengroups.losses.semantics import calibration_loss
from tokengroups.systems.segvggt.config import OpenHeadConfig
from tokengroups.types import TensorFields

INITIAL_SCALE = 10.0  # of the cosines: the inverse of the softmax's temperature
INITIAL_SLOPE, INITIAL_THRESHOLD = 12.0, 0.6  # of the calibration; cosines of sentence encoders


@dataclass(frozen=True)
class OpenClasses(TensorFields):
    """Queries in the text space, and what they are among the class names."""

    embeddings: Float[Tensor, "*b Q D"]  # of unit length
    cosines: Float[Tensor, "*b Q K"]  # with the class names
    logits: Float[Tensor, "*b Q K1"]  # the last one is "no object"
    calibration: Float[Tensor, "2"]  # (a, b) of `tokengroups.types.Semantics`


class OpenHead(nn.Module):
    """Projected queries to unit vectors of the text space, and to logits of the class names and "no object".

    Args:
        mask_dim: Channels of the projected queries.
        config: Sizes.
        num_classes: Number of class names.

    Raises:
        ValueError: The text space has no channels.
    """

    names: Float[Tensor, "K D"]  # text embeddings, saved with the weights

    def __init__(self, mask_dim: int, config: OpenHeadConfig, num_classes: int) -> None:
        super().__init__()
        if not config.text_dim:
            raise ValueError("the open head needs open_head.text_dim, the channels of its text encoder")
        self.hidden = nn.Sequential(nn.Linear(mask_dim, config.hidden), nn.GELU())
        self.embedding = nn.Linear(config.hidden, config.text_dim)
        self.no_object = nn.Linear(config.hidden, 1)
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_SCALE).log())
        self.log_slope = nn.Parameter(torch.tensor(INITIAL_SLOPE).log())
        self.threshold = nn.Parameter(torch.tensor(INITIAL_THRESHOLD))
        self.register_buffer("names", torch.zeros(num_classes, config.text_dim))

    def forward(self, queries: Float[Tensor, "*b Q E"]) -> OpenClasses:
        """Compare projected queries with the class names."""
        hidden = self.hidden(queries)
        embeddings = functional.normalize(self.embedding(hidden), dim=-1)
        cosines = embeddings @ functional.normalize(self.names, dim=-1).T
        logits = torch.cat([self.log_scale.exp() * cosines, self.no_object(hidden)], dim=-1)
        return OpenClasses(embeddings, cosines, logits, self.calibration)

    @property
    def calibration(self) -> Float[Tensor, "2"]:
        """Slope and threshold by which a cosine becomes a probability."""
        return torch.stack([self.log_slope.exp(), self.threshold])


def open_class_loss(
    found: OpenClasses, matches: Sequence[Matching], targets: Sequence[InstanceTargets], no_object: float
) -> Float[Tensor, ""]:
    """The class loss of the closed head on the logits of the open one, mean over the scenes."""
    scenes = zip(found.logits, matches, targets, strict=True)
    losses = [class_loss(logits, m.query, t.classes[m.instance], no_object) for logits, m, t in scenes]
    return torch.stack(losses).mean()


def open_distillation_loss(
    found: OpenClasses, matches: Sequence[Matching], targets: Sequence[InstanceTargets]
) -> Float[Tensor, ""]:
    """Mean of 1 - cosine between matched queries and the text embeddings of their class names.

    The class loss alone tells names apart, by any direction that does: cosines with other texts mean little then.
    """
    scenes = zip(found.cosines, matches, targets, strict=True)
    chosen = [(own[match.query], target.classes[match.instance]) for own, match, target in scenes]
    right = [own[classes >= 0, classes[classes >= 0]] for own, classes in chosen]
    cosines = torch.cat(right)
    return (1 - cosines).mean() if len(cosines) else found.cosines.sum() * 0


def open_calibration_loss(
    found: OpenClasses, matches: Sequence[Matching], targets: Sequence[InstanceTargets]
) -> Float[Tensor, ""]:
    """Calibration of matched queries' cosines, each against every class name; its gradient reaches nothing else."""
    cosines, same = [], []
    for own, match, target in zip(found.cosines, matches, targets, strict=True):
        classes = target.classes[match.instance]
        cosines.append(own[match.query[classes >= 0]])
        same.append(functional.one_hot(classes[classes >= 0], own.shape[1]).bool())
    return calibration_loss(torch.cat(cosines), torch.cat(same), found.calibration)
