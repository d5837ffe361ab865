"""The scene's unit of length: pictures stay, lengths are multiplied, and records say so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import random_scene
from tolerances import tolerance

import tokengroups as tg
from tokengroups.cli.main import main
from tokengroups.editing import parse_edits
from tokengroups.errors import UserError
from tokengroups.geometry import rigid
from tokengroups.scene import cameras_in_scene, export_scene, import_scene, summarise, visible_shares, world_from_scene
from tokengroups.types import TokenScene


@pytest.mark.parametrize("factor", [0.1, 0.64, 3, 1000])
def test_pictures_stay_and_lengths_are_multiplied(factor: float) -> None:
    scene = tg.example_scene()
    rescaled = tg.rescale(scene, factor)
    pictures = (tg.render_views(each, each.cameras) for each in (scene, rescaled))
    for before, after in zip(*pictures, strict=True):
        # Colours differ a little where rounding decides which of two Gaussians is in front.
        apart = (after.color - before.color).abs()
        assert apart.mean() < 1e-5 and apart.max() < 0.03
        torch.testing.assert_close(after.depth, factor * before.depth, rtol=1e-2, atol=1e-3 * factor)
        assert (after.group_map != before.group_map).float().mean() < 1e-3
    sizes, multiplied = (summarise(each, visible_shares(each)) for each in (scene, rescaled))
    for one, other in zip(sizes, multiplied, strict=True):
        assert other.size == pytest.approx([factor * length for length in one.size], rel=1e-5)
        assert other.centre == pytest.approx([factor * length for length in one.centre], rel=1e-5, abs=1e-6 * factor)


def test_what_is_no_length_keeps_every_bit() -> None:
    scene = random_scene(degree=3, semantic_dim=6)
    rescaled = tg.rescale(scene, 1 / 3)
    for name in ("quats", "opacities", "sh"):
        assert torch.equal(getattr(rescaled.gaussians, name), getattr(scene.gaussians, name))
    for name in ("anchor_ids", "assignment", "group_ids", "group_tokens"):
        assert torch.equal(getattr(rescaled, name), getattr(scene, name))
    assert rescaled.semantics is scene.semantics and rescaled.group_names == scene.group_names
    assert torch.equal(rescaled.cameras.intrinsics, scene.cameras.intrinsics)
    assert torch.equal(rescaled.cameras.cam_from_world[:, :3, :3], scene.cameras.cam_from_world[:, :3, :3])
    torch.testing.assert_close(rescaled.cameras.cam_from_world[1, :3, 3], torch.tensor([-0.1, 0, 0]))


def test_factors_multiply_and_the_inverse_leads_back() -> None:
    scene = random_scene()
    twice, once = tg.rescale(tg.rescale(scene, 0.3), 7), tg.rescale(scene, 2.1)
    back = tg.rescale(tg.rescale(scene, 0.7), 1 / 0.7)
    for found, expected in ((twice, once), (back, scene)):
        for one, other in (
            (found.anchors, expected.anchors),
            (found.gaussians.means, expected.gaussians.means),
            (found.gaussians.scales, expected.gaussians.scales),
            (found.cameras.cam_from_world, expected.cameras.cam_from_world),
        ):
            torch.testing.assert_close(one, other, **tolerance("float32"))


def test_edits_of_groups_and_of_the_unit_commute() -> None:
    scene = random_scene()
    one = tg.move(tg.rescale(scene, 2), 5, (0.2, 0, 0.4))
    other = tg.rescale(tg.move(scene, 5, (0.1, 0, 0.2)), 2)
    torch.testing.assert_close(one.gaussians.means, other.gaussians.means, **tolerance("float32"))


def test_the_provenance_names_the_unit_and_the_factor() -> None:
    scene = random_scene()
    rescaled = tg.rescale(scene, 0.5)
    assert rescaled.provenance == scene.provenance | {
        "unit": "given", "edits": [{"operation": "rescale", "factor": 0.5}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "provenance",
    [
        {"cameras": "given", "unit": "that of the cameras"},
        {"made_by": "fit", "world_from_scene": rigid(2 * torch.eye(3), torch.tensor([1.0, -2.0, 5.0])).tolist()},
        {"imported_from": "room.ply"},
    ],
)
def test_cameras_of_the_same_world_still_see_the_scene(provenance: dict[str, object]) -> None:
    """Cameras in the world of given cameras, of a fit's photos, of a file."""
    scene = replace(random_scene(), provenance=provenance)
    outer = world_from_scene(scene)
    outer = torch.eye(4, dtype=torch.float64) if outer is None else outer
    similar = scene.cameras.cam_from_world.double() @ torch.linalg.inv(outer)
    unit = torch.linalg.det(similar[:, :3, :3])[:, None, None] ** (1 / 3)
    cameras = replace(scene.cameras, cam_from_world=torch.cat([similar[:, :3] / unit, similar[:, 3:]], dim=1))
    rescaled = tg.rescale(tg.rescale(scene, 0.5), 6)
    recorded = world_from_scene(rescaled)
    assert recorded is not None
    found = cameras_in_scene(cameras, recorded).cam_from_world
    torch.testing.assert_close(found, rescaled.cameras.cam_from_world, **tolerance("float32_chain"))


def test_an_imported_scene_records_where_its_file_was(tmp_path: Path) -> None:
    export_scene(tg.example_scene(), tmp_path / "a.ply")
    rescaled = tg.rescale(import_scene(tmp_path / "a.ply").scene, 4)
    assert rescaled.provenance["world_from_scene"] == torch.diag(torch.tensor([0.25, 0.25, 0.25, 1])).tolist()


@pytest.mark.parametrize("recorded", [[[1.0]], "here", [[0.0] * 4] * 4, [[float("nan")] * 4] * 4, 7])
def test_a_broken_record_of_the_world_is_refused(recorded: object) -> None:
    with pytest.raises(UserError, match="its world_from_scene is no similarity"):
        tg.rescale(replace(random_scene(), provenance={"world_from_scene": recorded}), 2)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (0, "the factor must be positive and finite, got 0"),
        (-2.0, "positive and finite"),
        (float("nan"), "positive and finite"),
        (float("inf"), "positive and finite"),
        ("2", "positive and finite"),
        (None, "positive and finite"),
        (1e-7, r"the factor must be from 1e-06 to 1e\+06, got 1e-07"),
        (2e6, r"the factor must be from 1e-06 to 1e\+06, got 2e\+06"),
        (0.01, r"the scene would be 0.028 deep, and renderers draw nothing that is nearer than 0.01; give a larger"),
    ],
)
def test_impossible_factors_are_refused(factor: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"^rescale: .*{message}"):
        tg.rescale(random_scene(), factor)


def test_a_scene_beyond_the_largest_number_is_refused_and_a_tiny_one_may_grow() -> None:
    scene = tg.rescale(random_scene(), 1e6)
    with pytest.raises(UserError, match="^rescale: the edited scene could not be saved: .*beyond"):
        tg.rescale(scene, 1e6)
    tiny = replace(scene, anchors=1e-9 * scene.anchors)
    assert tg.rescale(tiny, 2.0) and tg.rescale(behind(random_scene()), 1e-3)


def behind(scene: TokenScene) -> TokenScene:
    """No anchor is in front of a camera."""
    return replace(scene, anchors=scene.anchors * torch.tensor([1.0, 1.0, -1.0]))


def test_the_command_line_rescales_and_draws_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    tg.save_scene(source, tg.example_scene())
    words = f"edit {source} rescale 0.5 move ball 0.1 0 0 -o {output} --render {tmp_path / 'pictures'} --json"
    assert main(words.split()) == 0
    assert json.loads(capsys.readouterr().out)["edits"] == ["rescaled the scene by 0.5", "moved 3 by 0.1 0 0"]
    scene = tg.load_scene(output)
    assert torch.equal(scene.anchors, tg.move(tg.rescale(tg.example_scene(), 0.5), 3, (0.1, 0, 0)).anchors)
    assert main(f"edit {source} rescale 0.5 -o {output} --render {tmp_path / 'same'}".split()) == 0
    pictures = [sorted((tmp_path / "same").glob(f"{name}_*.png")) for name in ("before", "after")]
    assert len(pictures[0]) == len(scene.cameras.cam_from_world)
    for before, after in zip(*pictures, strict=True):
        assert before.read_bytes() == after.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rescale", "'rescale': 1 argument expected, 0 found; the form is: rescale FACTOR"),
        ("rescale 2 3", "1 argument expected, 2 found"),
        ("rescale ball 2", "1 argument expected, 2 found"),
        ("rescale twice", "'twice' should be numbers"),
    ],
)
def test_wrong_words_are_refused_with_the_right_form(words: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_edits(words.split())
    assert message in str(caught.value)
