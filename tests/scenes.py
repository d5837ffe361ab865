"""Small random scenes for tests of what uses a scene."""

from __future__ import annotations

import torch

from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene


def random_scene(
    *,
    groups: int = 3,
    anchors_per_group: int = 2,
    per_anchor: int = 4,
    degree: int = 1,
    token_dim: int = 5,
    seed: int = 0,
    semantic_dim: int = 0,
) -> TokenScene:
    """A consistent scene in front of two cameras; ids are 2, 5, 8, ...; assignments are soft.

    With a `semantic_dim` it has semantics of that many channels, residuals of 2, the same projection for all seeds.
    """
    rng = torch.Generator().manual_seed(seed)
    num_anchors = groups * anchors_per_group
    n = num_anchors * per_anchor
    anchors = torch.rand(num_anchors, 3, generator=rng) * 2 - 1 + torch.tensor([0.0, 0.0, 3.0])
    anchor_ids = torch.arange(num_anchors).repeat_interleave(per_anchor)
    gaussians = Gaussians(
        means=anchors[anchor_ids] + 0.1 * torch.randn(n, 3, generator=rng),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1),
        scales=0.05 + 0.1 * torch.rand(n, 3, generator=rng),
        opacities=0.2 + 0.7 * torch.rand(n, generator=rng),
        sh=0.5 * torch.randn(n, (degree + 1) ** 2, 3, generator=rng),
    )
    owner = torch.arange(num_anchors) % groups
    logits = torch.rand(num_anchors, groups, generator=rng) + 3 * torch.nn.functional.one_hot(owner, groups)
    return TokenScene(
        gaussians=gaussians,
        anchor_ids=anchor_ids,
        anchors=anchors,
        assignment=logits.softmax(dim=1),
        group_ids=2 + 3 * torch.arange(groups),
        group_tokens=torch.randn(groups, token_dim, generator=rng),
        cameras=two_cameras(),
        group_names=tuple(f"thing {column}" for column in range(groups)),
        provenance={"weights": "none", "seed": seed},
        semantics=random_semantics(groups, num_anchors, semantic_dim, rng) if semantic_dim else None,
    )


def random_semantics(groups: int, anchors: int, dim: int, rng: torch.Generator) -> Semantics:
    """Unit embeddings and small residuals in the space of a text encoder named ``words:1``."""
    embeddings = torch.nn.functional.normalize(torch.randn(groups, dim, generator=rng), dim=1)
    projection = torch.randn(dim, 2, generator=torch.Generator().manual_seed(99))
    return Semantics(
        embeddings, 0.1 * torch.randn(anchors, 2, generator=rng), projection, torch.tensor([12.0, 0.5]), "words:1"
    )


def two_cameras(size_hw: tuple[int, int] = (24, 32)) -> Cameras:
    """Two parallel cameras, 0.3 apart, 65 degrees wide."""
    height, width = size_hw
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = -0.3
    pinhole = torch.tensor([[25.0, 0.0, width / 2], [0.0, 25.0, height / 2], [0.0, 0.0, 1.0]])
    return Cameras(poses, pinhole.repeat(2, 1, 1), size_hw)
