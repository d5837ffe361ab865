"""The semantic head: shapes, isolation from geometry, and its way into a scene."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tokengroups.systems import TokenGroupsConfig
from tokengroups.systems.token_groups.context import FrozenGeometry
from tokengroups.systems.token_groups.decoder import TokenGroupDecoder, TokenGroupsOutput
from tokengroups.systems.token_groups.semantic_head import SemanticHead, pooled
from tokengroups.systems.token_groups.system import token_scene
from tokengroups.types import Cameras

CONFIG = TokenGroupsConfig(
    context_patch=16, anchor_stride=8, num_anchors=32, num_groups=6, gaussians_per_anchor=2, dim=24, num_heads=2,
    anchor_layers=1, group_layers=1, semantic_dim=10, residual_dim=3, text_encoder="words:1",
)  # fmt: skip


def decode(
    config: TokenGroupsConfig, scenes: int = 2
) -> tuple[TokenGroupDecoder, TokenGroupsOutput, Cameras]:
    torch.manual_seed(0)
    decoder = TokenGroupDecoder(config, feature_dim=12)
    poses = torch.eye(4).expand(scenes, 2, 4, 4)
    pinholes = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]]).expand(scenes, 2, 3, 3)
    cameras = Cameras(poses, pinholes, (32, 32))
    depth = torch.rand(scenes, 2, 32, 32) + 1
    geometry = FrozenGeometry(
        torch.randn(scenes, 2, 12, 2, 2), torch.randn(scenes, 2, 32, 32, 3), depth, depth + 1, cameras
    )
    return decoder, decoder(torch.rand(scenes, 2, 3, 32, 32), geometry), cameras


def test_only_the_head_learns_meaning():
    """Every gradient of a loss on semantics stays in the head; none of its parameters is left out."""
    decoder, output, _ = decode(CONFIG)
    assert output.semantics is not None
    semantics = output.semantics
    assert semantics.embeddings.shape == (2, 6, 10) and semantics.residuals.shape == (2, 32, 3)
    torch.testing.assert_close(semantics.embeddings.norm(dim=-1), torch.ones(2, 6))
    weights = torch.randn(2, 6, 10)
    features = (semantics.residuals @ semantics.projection.mT).square().sum()
    ((semantics.embeddings * weights).sum() + features + semantics.calibration.prod(dim=-1).sum()).backward()
    for name, parameter in decoder.named_parameters():
        learns = parameter.grad is not None and bool((parameter.grad != 0).any())
        assert learns == name.startswith("semantic_head."), name


def test_basis_times_channels_is_the_papers_feature():
    _, output, _ = decode(CONFIG)
    assert output.semantics is not None
    shares, residual = torch.rand(5, 6), torch.rand(5, 3)
    got = torch.cat([shares, residual], dim=1) @ output.semantics.basis(1)
    expected = shares @ output.semantics.embeddings[1] + residual @ output.semantics.projection[1].T
    torch.testing.assert_close(got, expected)


def test_without_semantics_nothing_changes():
    """The same seed gives the same decoder, so weights made before semantics keep their names."""
    plain = dataclasses.replace(CONFIG, semantic_dim=0)
    decoder, output, _ = decode(plain)
    assert output.semantics is None
    assert not [name for name in decoder.state_dict() if "semantic" in name]
    with_head, _, _ = decode(CONFIG)
    assert set(decoder.state_dict()) <= set(with_head.state_dict())


@pytest.mark.parametrize("residual_dim", [3, 0])
def test_a_scene_takes_the_used_groups_embeddings(residual_dim):
    _, output, cameras = decode(dataclasses.replace(CONFIG, residual_dim=residual_dim))
    first = output.map(lambda tensor: tensor[1] if tensor.ndim > 1 else tensor)
    scene = token_scene(first, cameras.map(lambda tensor: tensor[1]), {}, "words:1")
    assert scene.semantics is not None and output.semantics is not None
    assert scene.semantics.encoder == "words:1"
    assert torch.equal(scene.semantics.embeddings, output.semantics.embeddings[1][scene.group_ids])
    assert torch.equal(scene.semantics.residuals, output.semantics.residuals[1])
    assert scene.semantics.projection.shape == (10, residual_dim)
    assert scene.semantics.calibration.tolist() == pytest.approx([12.0, 0.6])


def test_without_group_embeddings_meaning_lies_in_the_residuals():
    decoder, output, _ = decode(dataclasses.replace(CONFIG, group_embeddings=False))
    assert output.semantics is not None and decoder.semantic_head is not None
    assert (output.semantics.embeddings == 0).all() and decoder.semantic_head.embedding is None
    assert output.semantics.basis(0).shape == (9, 10)


def test_a_batch_of_two_equals_two_of_one():
    head = SemanticHead(8, 5, 2)
    parts = torch.randn(2, 3, 8), torch.randn(2, 7, 8), torch.rand(2, 7, 3).softmax(-1)
    both, second = head(*parts), head(*(part[1:] for part in parts))
    torch.testing.assert_close(both.embeddings[1:], second.embeddings)
    torch.testing.assert_close(both.residuals[1:], second.residuals)


def test_pooling_is_that_of_the_members():
    """With one-hot assignments: mean and population deviation of each group's own anchors; zero for an empty one."""
    tokens = torch.randn(1, 9, 4)
    owner = torch.tensor([0, 1, 1, 0, 1, 1, 0, 0, 0])
    mean, deviation = pooled(tokens, torch.nn.functional.one_hot(owner, 3).float()[None])
    for group in range(2):
        mine = tokens[0, owner == group]
        torch.testing.assert_close(mean[0, group], mine.mean(dim=0))
        torch.testing.assert_close(deviation[0, group], mine.std(dim=0, correction=0), rtol=1e-4, atol=1e-5)
    assert (mean[0, 2] == 0).all() and (deviation[0, 2] == 0).all()


def test_autocast_changes_little():
    """Training runs under it; the spread is a difference of squares, which bfloat16 would ruin."""
    head = SemanticHead(8, 5, 2)
    tokens, owners = 3 + 0.01 * torch.randn(1, 40, 8), torch.rand(1, 40, 3).softmax(-1)
    exact = pooled(tokens, owners)
    with torch.autocast("cpu", torch.bfloat16):
        under = pooled(tokens, owners)
        semantics = head(torch.randn(1, 3, 8), tokens.bfloat16(), owners.bfloat16())
    assert all(torch.equal(a, b) for a, b in zip(exact, under, strict=True))
    assert semantics.embeddings.dtype == semantics.residuals.dtype == torch.float32
