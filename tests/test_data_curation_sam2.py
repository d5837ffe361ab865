"""SAM 2's adapters with tiny random models, and the parts of them that need no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokengroups.cli.main import main
from tokengroups.compat import prepare_torchvision
from tokengroups.data.curation import sam2
from tokengroups.data.curation.base import Propagator, Proposer, load_part
from tokengroups.data.curation.crops import crop_boxes, is_cut_off
from tokengroups.data.curation.sam2 import Sam2Propagator, Sam2Proposer
from tokengroups.errors import UserError
from tokengroups.io.pixels import write_pixels

SIDE = 128
prepare_torchvision()
transformers = pytest.importorskip("transformers", reason="the extra 'curation' is not installed")
if not hasattr(transformers, "Sam2VideoModel"):
    pytest.skip(f"transformers {transformers.__version__} has no SAM 2", allow_module_level=True)


def tiny_config() -> Any:
    """SAM 2's video model with few channels and photos of 128 x 128."""
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1], "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2],
    }  # fmt: skip
    vision = {
        "model_type": "sam2_vision_model", "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[SIDE // cell] * 2 for cell in (4, 8, 16)], "fpn_hidden_size": 128,
    }  # fmt: skip
    return transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": SIDE, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
        image_size=SIDE, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[SIDE // 16, SIDE // 16],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_num_layers=1, memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32,
        num_maskmem=3, max_object_pointers_in_encoder=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam2")
    model = transformers.Sam2VideoModel(tiny_config())
    decoder = model.mask_decoder
    with torch.no_grad():  # logits of both signs, as large as SAM 2's; objects that are there
        for parameter in decoder.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
        for parameter in model.vision_encoder.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
        for head in decoder.output_hypernetworks_mlps:
            head.proj_out.weight *= 20
        decoder.iou_prediction_head.proj_out.bias += 1.5
        decoder.pred_obj_score_head.proj_out.bias += 5
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8))


def test_proposals_are_masks_of_the_photo(
    weights: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam2, "_BOX_IOU", 1.1)  # all the random masks have the same box
    monkeypatch.setattr(sam2, "_POINTS_PER_SIDE", 4)
    proposer = load_part("proposer", "sam2", weights, "cpu")
    assert isinstance(proposer, Proposer)
    proposals = proposer.propose(photos[0], 0.2, 0)
    assert len(proposals) > 1
    for proposal in proposals:
        assert proposal.mask.shape == (48, 64) and proposal.mask.any()
        assert 0.7 < proposal.predicted_iou <= 1 and 0.2 < proposal.stability <= 1
    again = proposer.propose(photos[0], 0.2, 0)
    assert all((one.mask == other.mask).all() for one, other in zip(proposals, again, strict=True))
    limit = float(np.median([proposal.stability for proposal in proposals]))
    stable = proposer.propose(photos[0], limit, 0)
    assert len(stable) == sum(proposal.stability > limit for proposal in proposals) < len(proposals)


def test_proposals_are_the_models_own(weights: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """One point, no suppression: the masks are those of a direct call of the model."""
    monkeypatch.setattr(sam2, "_POINTS_PER_SIDE", 1)
    monkeypatch.setattr(sam2, "_MIN_IOU", 0.0)
    monkeypatch.setattr(sam2, "_MIN_AREA", 0)
    monkeypatch.setattr(sam2, "_BOX_IOU", 1.1)
    proposer = Sam2Proposer(weights, "cpu")
    found = proposer.propose(photos[0], -1.0, 0)
    pixels = torch.from_numpy(photos[0]).permute(2, 0, 1)[None] / 255
    pixels = torch.nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        points, labels = torch.full((1, 1, 1, 2), SIDE / 2), torch.ones(1, 1, 1, dtype=torch.int64)
        output = proposer.model(pixel_values=(pixels - mean) / std, input_points=points, input_labels=labels)
        logits = torch.nn.functional.interpolate(output.pred_masks[0], (48, 64), mode="bilinear")[0]
    order = output.iou_scores.flatten().argsort(descending=True)
    expected = [(logits[i] > 0).numpy() for i in order.tolist() if (logits[i] > 0).any()]
    assert len(found) == len(expected) > 0
    for proposal, mask in zip(found, expected, strict=True):
        np.testing.assert_array_equal(proposal.mask, mask)


def test_crops_cover_the_photo_and_overlap() -> None:
    for size, layers in (((300, 600), 1), ((97, 61), 2)):
        boxes = crop_boxes(size, layers)
        assert len(boxes) == 1 + 4 + (16 if layers == 2 else 0) and boxes[0] == (0, 0, *size)
        for first, last, count in ((1, 5, 2), (5, 21, 4))[:layers]:
            seen = np.zeros(size, int)
            for top, left, height, width in boxes[first:last]:
                assert 0 <= top < top + height <= size[0] and 0 <= left < left + width <= size[1]
                seen[top : top + height, left : left + width] += 1
            assert seen.min() == 1 and seen.max() == (4 if count == 2 else seen.max())


def test_masks_that_a_crop_may_cut_are_dropped() -> None:
    mask = np.zeros((200, 300), bool)
    mask[50:80, 50:95] = True
    assert is_cut_off(mask, (0, 0, 200, 100))  # five pixels from the crop's right edge
    assert not is_cut_off(mask, (0, 0, 200, 150))
    mask[:, :95] = True
    assert not is_cut_off(mask, (0, 0, 200, 150))  # the edges are those of the photo


def test_crops_propose_masks_of_the_whole_photo(
    weights: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam2, "_POINTS_PER_SIDE", 2)
    proposer = Sam2Proposer(weights, "cpu")
    large = np.kron(photos[0], np.ones((4, 4, 1), np.uint8))
    proposals = proposer.propose(large, 0.2, 1)
    assert proposals and all(proposal.mask.shape == (192, 256) for proposal in proposals)


def test_propagation_begins_at_the_prompt_and_returns_it(weights: Path, photos: list[np.ndarray]) -> None:
    propagator = load_part("propagator", "sam2", weights, "cpu")
    assert isinstance(propagator, Propagator)
    masks = np.zeros((2, 48, 64), bool)
    masks[0, :24, :32], masks[1, 24:, 32:] = True, True
    forward = list(propagator.propagate(photos, {1: {7: masks[0], 9: masks[1]}}, False))
    assert [frame for frame, _ in forward] == [1, 2, 3, 4, 5]
    for frame, found in forward:
        assert list(found) == [7, 9]
        assert all(mask.shape == (48, 64) and mask.dtype == bool for mask in found.values())
        if frame == 1:
            np.testing.assert_array_equal(found[7], masks[0])
            np.testing.assert_array_equal(found[9], masks[1])
    backward = list(propagator.propagate(photos, {3: {7: masks[0]}}, True))
    assert [frame for frame, _ in backward] == [3, 2, 1, 0]
    np.testing.assert_array_equal(backward[0][1][7], masks[0])


def test_prompts_at_several_frames_all_count(weights: Path, photos: list[np.ndarray]) -> None:
    propagator = Sam2Propagator(weights, "cpu")
    first, second = np.zeros((48, 64), bool), np.zeros((48, 64), bool)
    first[:24, :32], second[24:, 32:] = True, True
    found = dict(propagator.propagate(photos, {0: {1: first, 2: second}, 3: {1: second}}, False))
    np.testing.assert_array_equal(found[0][1], first)
    np.testing.assert_array_equal(found[3][1], second)
    assert list(found[3]) == [1, 2]


def test_propagation_is_transformers_own_in_bounded_memory(weights: Path, photos: list[np.ndarray]) -> None:
    """The same masks as from the library's iterator over a whole video in memory."""
    propagator = Sam2Propagator(weights, "cpu")
    mask = np.zeros((48, 64), bool)
    mask[8:40, 16:48] = True
    frames = photos * 3
    found = dict(propagator.propagate(frames, {0: {1: mask}}, False))
    pixels = torch.stack([sam2._normalised(photo, SIDE) for photo in frames])
    session = transformers.Sam2VideoInferenceSession(pixels, 48, 64, dtype=torch.float32)
    session.add_mask_inputs(session.obj_id_to_idx(1), 0, propagator._prompt(mask))
    session.obj_with_new_inputs = [1]
    for output in propagator.model.propagate_in_video_iterator(session, start_frame_idx=0):
        logits = torch.nn.functional.interpolate(output.pred_masks, (48, 64), mode="bilinear")[0, 0]
        np.testing.assert_array_equal(found[output.frame_idx][1], (logits > 0).numpy())
    assert any(0 < found[frame][1].mean() < 1 for frame in range(1, len(frames)))


def test_sessions_forget(weights: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    propagator, kept = Sam2Propagator(weights, "cpu"), []
    step = Sam2Propagator._step

    def recorded(self: Sam2Propagator, session: Any, frame: int, reverse: bool) -> Any:
        output = step(self, session, frame, reverse)
        (outputs,) = session.output_dict_per_obj.values()
        kept.append(len(outputs["non_cond_frame_outputs"]))
        assert not any("high_res_masks" in out for kind in outputs.values() for out in kind.values())
        return output

    monkeypatch.setattr(Sam2Propagator, "_step", recorded)
    mask = np.ones((48, 64), bool)
    list(propagator.propagate(photos * 4, {0: {1: mask}}, False))
    assert max(kept) == propagator.memory + 1 == 5


def test_half_precision_as_on_a_gpu_changes_little(
    weights: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam2, "_POINTS_PER_SIDE", 2)
    mask = np.zeros((48, 64), bool)
    mask[8:40, 16:48] = True

    def all_masks() -> np.ndarray:
        proposals = Sam2Proposer(weights, "cpu").propose(photos[0], 0.0, 0)
        followed = dict(Sam2Propagator(weights, "cpu").propagate(photos, {0: {1: mask}, 3: {1: mask}}, False))
        return np.stack([*(proposal.mask for proposal in proposals), *(masks[1] for masks in followed.values())])

    exact = all_masks()
    monkeypatch.setattr(sam2, "_fast", lambda model: torch.autocast(model.device.type, torch.bfloat16))
    assert (all_masks() == exact).mean() > 0.95


def test_command_with_a_tiny_model(
    weights: Path,
    photos: list[np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sam2, "_POINTS_PER_SIDE", 2)
    (tmp_path / "frames").mkdir()
    for number, photo in enumerate(photos[:3]):
        write_pixels(tmp_path / f"frames/{number}.png", photo)
    arguments = [str(tmp_path / "frames"), "-o", str(tmp_path / "out"), "--weights", str(weights)]
    assert main(["data", "curate", *arguments, "--device", "cpu", "--json"]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    content = json.loads((tmp_path / "out/auto_masks.json").read_text())
    assert facts["frames"] == 3 == content["video_frame_count"] and facts["objects"] == content["masklet_num"] > 0
    assert captured.err == ""


@pytest.mark.parametrize("damage", ["kind", "no json", "cut", "lacking", "shape"])
def test_other_weights_are_one_line(weights: Path, tmp_path: Path, damage: str) -> None:
    config = json.loads((weights / "config.json").read_text())
    tensors = (weights / "model.safetensors").read_bytes()
    if damage == "kind":
        config["model_type"] = "bert"
    if damage == "shape":
        config["memory_fuser_embed_dim"] = 32
    (tmp_path / "config.json").write_text("{" if damage == "no json" else json.dumps(config))
    if damage == "lacking":
        transformers.Sam2Model.from_pretrained(weights).save_pretrained(tmp_path)
    else:
        (tmp_path / "model.safetensors").write_bytes(tensors[: 1000 if damage == "cut" else None])
    with pytest.raises(UserError) as caught:
        Sam2Propagator(tmp_path, "cpu")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
