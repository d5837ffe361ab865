"""The semantic head: shapes, isolation from geometry, and its way into a scene."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toy_systems import ENCODER, WITH_SEMANTICS, decode, random_photos

from tokengroups.encoders.vggt import VGGT
from tokengroups.postprocess import token_scene
from tokengroups.systems.token_groups import TokenGroups
from tokengroups.systems.token_groups.semantic_head import SemanticHead, pooled


def test_only_the_head_learns_meaning():
    """Every gradient of a loss on semantics stays in the head; none of its parameters is left out."""
    model, output, _ = decode(WITH_SEMANTICS)
    assert output.semantics is not None
    semantics = output.semantics
    assert semantics.embeddings.shape == (2, 6, 10) and semantics.residuals.shape == (2, 32, 3)
    torch.testing.assert_close(semantics.embeddings.norm(dim=-1), torch.ones(2, 6))
    weights = torch.randn(2, 6, 10)
    features = (semantics.residuals @ semantics.projection.mT).square().sum()
    ((semantics.embeddings * weights).sum() + features + semantics.calibration.prod(dim=-1).sum()).backward()
    for name, parameter in model.named_parameters():
        learns = parameter.grad is not None and bool((parameter.grad != 0).any())
        assert learns == name.startswith("semantic_head."), name


def test_basis_times_channels_is_the_papers_feature():
    _, output, _ = decode(WITH_SEMANTICS)
    assert output.semantics is not None
    shares, residual = torch.rand(5, 6), torch.rand(5, 3)
    got = torch.cat([shares, residual], dim=1) @ output.semantics.basis(1)
    expected = shares @ output.semantics.embeddings[1] + residual @ output.semantics.projection[1].T
    torch.testing.assert_close(got, expected)


def test_without_semantics_nothing_changes():
    """The same seed gives the same model, so weights made before semantics keep their names."""
    plain = dataclasses.replace(WITH_SEMANTICS, semantic_dim=0)
    model, output, _ = decode(plain)
    assert output.semantics is None
    assert not [name for name in model.state_dict() if "semantic" in name]
    with_head, _, _ = decode(WITH_SEMANTICS)
    assert set(model.state_dict()) <= set(with_head.state_dict())


@pytest.mark.parametrize("residual_dim", [3, 0])
def test_a_scene_takes_the_used_groups_embeddings(residual_dim):
    torch.manual_seed(0)
    system = TokenGroups(VGGT(ENCODER), dataclasses.replace(WITH_SEMANTICS, residual_dim=residual_dim)).eval()
    with torch.no_grad():
        draft = system.encode(random_photos())
        batch = draft.geometry.map(lambda tensor: tensor[None])
        output = system.network(draft.photos[None], batch)
        scene = token_scene(system.decode(draft), {})
    assert scene.semantics is not None and output.semantics is not None
    assert scene.semantics.encoder == "words:1" == system.text_encoder
    assert torch.equal(scene.semantics.embeddings, output.semantics.embeddings[0][scene.group_ids])
    assert torch.equal(scene.semantics.residuals, output.semantics.residuals[0])
    assert scene.semantics.projection.shape == (10, residual_dim)
    assert scene.semantics.calibration.tolist() == pytest.approx([12.0, 0.6])


def test_without_group_embeddings_meaning_lies_in_the_residuals():
    model, output, _ = decode(dataclasses.replace(WITH_SEMANTICS, group_embeddings=False))
    assert output.semantics is not None and model.semantic_head is not None
    assert (output.semantics.embeddings == 0).all() and model.semantic_head.embedding is None
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
