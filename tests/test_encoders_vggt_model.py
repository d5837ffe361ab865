"""Laws of VGGT and of its tiny relative, on small configurations; what only the relative does is tested beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt.dino import DinoViT
from tokengroups.encoders.vggt_tiny import VGGTTiny, VGGTTinyConfig

SIZES = {
    "patch_size": 16, "image_size": 64, "embed_dim": 32, "num_heads": 2, "dino_depth": 1, "depth": 4,
    "dino_layer_scale": 0.2, "layer_scale": 0.2, "camera_depth": 1, "camera_heads": 2,
    "dpt_layers": (0, 1, 2, 3),
    "dpt_channels": (8, 8, 8, 8), "dpt_features": 8, "dpt_hidden": 8,
}  # fmt: skip
PUBLISHED = VGGTConfig(**SIZES)
TINY = VGGTTinyConfig(**SIZES, enable_point=True, stem_channels=(4, 8, 8, 16), matching_dim=8)


def network(config):
    return (VGGTTiny if isinstance(config, VGGTTinyConfig) else VGGT)(config)


@pytest.fixture(params=[PUBLISHED, TINY], ids=["vggt", "vggt_tiny"])
def model(request):
    return network(request.param).eval()


def images(batch=2, views=3, height=48, width=64):
    return torch.rand(batch, views, 3, height, width, generator=torch.Generator().manual_seed(0))


def tensors(out):
    found = {f"tokens.{i}": x for i, x in enumerate(out.tokens)}
    found |= {f"pose.{i}": x for i, x in enumerate(out.pose_encodings)}
    found |= {"depth": out.depth, "depth_confidence": out.depth_confidence, "points": out.points}
    found |= {"points_confidence": out.points_confidence}
    found |= {"match_descriptors": getattr(out, "match_descriptors", None)}
    return {name: x for name, x in found.items() if x is not None}


def assert_same(left, right, tolerance=2e-5):
    left, right = tensors(left), tensors(right)
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=tolerance, atol=tolerance, msg=name)


def test_output_shapes_and_ranges(model):
    out = model(images())
    assert [x.shape for x in out.tokens] == [(2, 3, 1 + 4 + 12, 64)] * 4
    assert [x.shape for x in out.pose_encodings] == [(2, 3, 9)] * 4
    assert out.depth.shape == out.depth_confidence.shape == (2, 3, 48, 64)
    assert out.points.shape == (2, 3, 48, 64, 3)
    assert (out.depth > 0).all() and (out.depth_confidence > 1).all() and (out.points_confidence > 1).all()
    if isinstance(model, VGGTTiny):
        assert out.match_descriptors.shape == (2, 3, 48, 8)


def test_untrained_depth_is_near_one_and_the_field_of_view_alive(model):
    out = model(images())
    assert 0.5 < out.depth.median() < 2
    assert (out.pose_encodings[-1][..., 7:] > 0.3).all()


def test_a_batch_of_two_equals_two_of_one(model):
    x = images()
    with torch.no_grad():
        together = model(x)
        apart = [model(x[i : i + 1]) for i in range(2)]
    for i in range(2):
        assert_same(together.map(lambda tensor, i=i: tensor[i : i + 1]), apart[i])


def test_later_views_may_come_in_any_order(model):
    x, order = images(views=4), [0, 3, 1, 2]
    with torch.no_grad():
        assert_same(model(x).map(lambda tensor: tensor[:, order]), model(x[:, order]))


def test_the_first_view_is_special(model):
    x = images(views=2)
    with torch.no_grad():
        there, back = model(x), model(x.flip(1))
    assert (there.pose_encodings[-1] - back.pose_encodings[-1].flip(1)).abs().max() > 1e-3


def test_single_view_works(model):
    assert model(images(views=1)).depth.shape == (2, 1, 48, 64)


def test_every_trainable_parameter_gets_a_gradient(model):
    out = model.train()(images())
    sum(x.float().square().mean() for x in tensors(out).values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_frames_in_chunks_equal_all_at_once(model):
    x = images()
    with torch.no_grad():
        chunked = network(replace(model.config, dpt_chunk=2)).eval()
        chunked.load_state_dict(model.state_dict())
        assert_same(model(x), chunked(x))


def test_embed_and_layers_make_up_the_forward_pass(model):
    x = images()
    embedding = model.embed(x)
    tokens = embedding.tokens
    for index, expected in enumerate(model(x).tokens):
        in_frames = model.aggregator.mix_frames(index, tokens, embedding.grid_hw)
        tokens = model.aggregator.mix_scenes(index, in_frames, embedding.grid_hw)
        assert torch.equal(torch.cat([in_frames, tokens], dim=-1), expected)


def test_freeze_stops_gradients_and_keeps_evaluation_mode(model):
    assert model.freeze() is model
    model.train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_table_cached_in_inference_mode_serves_training(model):
    x = images(height=32, width=80)
    with torch.inference_mode():
        model(x)
    model(x).depth.sum().backward()


def test_bfloat16_stays_close_and_answers_in_float32(model):
    x = images()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    full = model(x)
    for name, expected in tensors(full).items():
        actual = tensors(half)[name]
        assert actual.dtype == torch.float32, name
        assert ((actual - expected).norm() / expected.norm()).item() < 3e-2, name


def test_sizes_off_the_patch_grid_are_refused(model):
    with pytest.raises(ValueError, match="multiples of 16, got 40x64"):
        model(images(height=40))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 60}, "image_size"),
        ({"dpt_layers": (0, 1, 2, 4)}, "dpt_layers must lie"),
        ({"dpt_layers": (0, 1)}, "four entries"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VGGTConfig(**{**SIZES, **changes})


def test_the_position_table_is_used_unchanged_at_its_own_size():
    dino = DinoViT(PUBLISHED)
    assert dino.position_table(4, 4) is dino.pos_embed
    other = dino.position_table(3, 5)
    assert other.shape == (1, 16, 32)
    assert torch.equal(other[:, 0], dino.pos_embed[:, 0])


def test_encoding_photos_leaves_the_point_head_out(model):
    model.freeze()
    calls = []
    model.point_head.register_forward_hook(lambda *_: calls.append(1))
    model.encode(images())
    assert not calls
    model(images())
    assert calls


def test_features_are_the_tokens_of_patches_in_the_same_memory(model):
    with torch.no_grad():
        out = model(images())
    patches = torch.cat([layer[:, :, 5:] for layer in out.tokens], dim=-1)
    assert torch.equal(out.features, patches.unflatten(2, (3, 4)).permute(0, 1, 4, 2, 3))
    assert len({x.untyped_storage().data_ptr() for x in (out.features, *out.tokens)}) == 1
    assert torch.equal(model(images()).features, out.features)  # with gradients


def test_a_trunk_held_in_half_is_the_one_under_autocast():
    model = VGGT(PUBLISHED).freeze()
    with torch.autocast("cpu", torch.bfloat16):
        expected = model.encode(images())
    half = model.hold_in_half()
    found = half.encode(images())
    for name in ("features", "depth", "confidence", "points"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert getattr(found, name).dtype == torch.float32
    assert torch.equal(found.cameras.cam_from_world, expected.cameras.cam_from_world)
    assert half.aggregator.global_blocks[0].attn.qkv.weight.dtype == torch.bfloat16
    assert half.aggregator.global_blocks[0].norm1.weight.dtype == torch.float32
    assert {parameter.dtype for parameter in half.depth_head.parameters()} == {torch.float32}
