"""The scripts in benchmarks/ on tiny input: frames, tables, invariances, curves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import random_scene

from tokengroups.data.augment import to_views
from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import generate_room
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.postprocess import step_name
from tokengroups.scene import save_scene, visible_shares
from tokengroups.scene.boxes import oriented_boxes
from tokengroups.scene.layout import Relation, relations, up_direction
from tokengroups.systems import load_model
from tokengroups.types import TokenScene

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    """Import one of the scripts, which find each other by name, by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__


def write_log(run: Path, name: str, seconds: bool = True) -> None:
    """A made-up log: losses every 10 steps, an evaluation before and after."""
    rows = [{"step": step, "loss": 3.0 / step, "steps_per_second": 2.0} for step in range(10, 101, 10)]
    rows = [{"step": 0, name: 0.1}, *rows, {"step": 100, name: 0.2}]
    rows = [row | {"seconds": row["step"] / 2} for row in rows] if seconds else rows
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_frames_of_the_plans(benchmark) -> None:
    views = benchmark("views")

    def frames(plan: str, num_views: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        frames = views.PlannedFrames(num_views, kind=plan)
        return frames.context, frames.targets

    even = tuple(range(0, 17, 2))
    for num_views in (1, 2, 4, 8):
        plan = FramePlan(num_views)
        assert frames("path", num_views) == (plan.context, plan.targets)
        assert frames("spread", num_views)[1] == even
        assert frames("nested", num_views)[1] == (6, 8, 10)
    assert [frames("spread", n)[0] for n in (1, 2, 4)] == [(9,), (5, 13), (3, 7, 11, 15)]
    assert [frames("nested", n)[0] for n in (1, 2, 4)] == [(7,), (7, 9), (5, 7, 9, 11)]
    assert frames("spread", 8)[0] == frames("nested", 8)[0] == tuple(range(1, 17, 2))


def test_path_is_what_evaluate_sees(benchmark, random_weights: Path) -> None:
    views = benchmark("views")
    plan = views.PlannedFrames(2)
    model = load_model(str(random_weights))
    (scene,) = views.load_scenes(model, plan, 5, 1)
    expected = cut_example(generate_room(5, 0, "test", 5, model.image_size), FramePlan(2))
    assert scene.names == expected.names == ("test_5_000000",)
    assert torch.equal(scene.context.images, expected.context.images)
    assert torch.equal(scene.targets.images, expected.targets.images)


def test_cost_is_measured(benchmark, random_weights: Path) -> None:
    views = benchmark("views")
    model = load_model(str(random_weights))
    cost = views.cost_here(model, torch.rand(2, 1, 3, model.image_size, model.image_size))
    assert cost["cpu_seconds"] > 0
    if cost["peak_mb"] is not None:  # Linux
        assert 0 <= cost["growth_mb"] < cost["peak_mb"]


def test_invariances(benchmark, random_weights: Path, capsys: pytest.CaptureFixture) -> None:
    invariances = benchmark("invariances")
    model = load_model(str(random_weights))
    frames = generate_room(5, 0, "test", 9, model.image_size)
    context, targets = to_views(frames, range(1, 9, 2)), to_views(frames, [4])
    scene = Example(context, targets, (frames.instance_classes,), (frames.name,))
    same = replace(invariances.CASES[0], other=(0, 1, 2, 3))
    still = invariances.measure_case(model, [scene], same)
    zero = ("psnr, change", "depth apart", "points apart", "other anchors", "pixels of photo 1 in another group")
    assert all(still[name] == pytest.approx(0, abs=1e-6) for name in zero)
    results = invariances.measure_invariances(model, [scene])
    invariances.print_invariances([results])
    assert "batch" not in capsys.readouterr().out  # one scene makes no pair
    moved = results[invariances.CASES[0].name]
    assert all(case["finite"] == 1 for case in results.values())
    assert moved["depth apart"] < 1e-3  # the same sums in another order
    batch = invariances.batch_difference(model, scene.context.images.unflatten(0, (2, 2)))
    assert batch["largest relative change of depth"] < 1e-3


def test_regrouped(benchmark) -> None:
    regrouped = benchmark("invariances").regrouped
    assert regrouped([0, 0, 1, 2], [7, 7, 5, 3]) == 0  # other names, same groups
    assert regrouped([0, 0, 0, 1], [4, 4, 6, 6]) == 0.25


def test_cells(benchmark) -> None:
    cell = benchmark("invariances").cell
    assert cell([1.0, 1.0]) == cell([1.0]) == "1.000"
    assert cell([1.0, None]) == "-"
    assert cell([1.0, 2.0, 3.0]) == "2.000 ± 2.484"
    assert cell([21088.0]) == "21,088"
    assert cell([2e-7]) == "2.0e-07"


def test_curves(benchmark, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    curves = benchmark("curves")
    write_log(tmp_path / "encoder", "evaluate/point_error")
    write_log(tmp_path / "groups", "evaluate/psnr", seconds=False)
    files = curves.draw_curves([tmp_path / "encoder", tmp_path / "groups"], tmp_path / "png")
    assert [file.name for file in files] == ["loss.png", "psnr.png", "point_error.png"]
    for file in files:
        assert file.stat().st_size < 80_000
        assert Image.open(file).size == (800, 300)
    assert "steps only" not in capsys.readouterr().out  # the speed tells the times


def test_minutes_of_older_logs(benchmark) -> None:
    stage = benchmark("curves").Stage
    rows = [{"step": 0}, {"step": 60, "steps_per_second": 1.0}, {"step": 120, "steps_per_second": 0.5}]
    np.testing.assert_allclose(stage("a", rows).minutes(), [0, 1, 3])
    assert stage("a", [{"step": 0}, {"step": 60}]).minutes() is None


def test_running_mean_keeps_lines_straight(benchmark) -> None:
    values = np.linspace(3.0, 1.0, 30)
    np.testing.assert_allclose(benchmark("curves").running_mean(values), values)


def test_picture_shows_the_group_go_and_move(benchmark, tmp_path: Path) -> None:
    """Removing leaves less of the scene, moving as much; both panels differ from the rendering."""
    picture = benchmark("picture")
    scene = random_scene()
    group = int(scene.group_ids[0])
    view, groups, without, moved = picture.panels(scene, group)
    assert groups.shape == view.shape == without.shape == moved.shape
    assert not torch.equal(view, without) and not torch.equal(view, moved)
    assert picture.most_visible_object(scene) in scene.group_ids.tolist()
    picture.draw([[view, view, view, groups, without, moved]], tmp_path / "new" / "picture.png")
    with Image.open(tmp_path / "new" / "picture.png") as image:
        assert image.width > 5 * image.height / 2


def test_true_parts_are_used_and_steps_left_out(benchmark) -> None:
    limits = benchmark("limits")
    model, data = load_model("token_groups_tiny"), EvaluationData("procedural", FramePlan(2), "test", 7)
    rooms = [generate_room(7, index, "test", num_views=5, size=model.image_size) for index in range(3)]
    scenes = [cut_example(room, data.plan) for room in rooms]  # of a single one the steps may worsen the PSNR
    rows = limits.make_rows(model)
    names = ("default steps", "true depth", "all true", "only bundle adjustment and multi-view stereo", "no steps")
    found = {name: limits.measure(rows[name], scenes, data) for name in names}
    assert found["all true"]["point_error"] < 1e-4 < found["true depth"]["point_error"]
    assert found["true depth"]["point_error"] < found["default steps"]["point_error"]
    assert found["default steps"]["point_error"] < found["no steps"]["point_error"]
    assert found[names[3]]["psnr"] < found["default steps"]["psnr"]


def test_rows_of_limits_are_lists_of_steps(benchmark) -> None:
    model = load_model("token_groups_tiny")
    rows = benchmark("limits").make_rows(model)
    steps = {name: [step_name(step) for step in row.steps] for name, row in rows.items()}
    names = [step_name(step) for step in model.steps]
    assert steps["default steps"] == steps["true pose"] == names and steps["no steps"] == []
    assert steps["without boundary CRF"] == [name for name in names if name != "boundary_crf"]
    assert steps["without bundle adjustment"] == names[1:]
    assert steps["only bundle adjustment and multi-view stereo"] == names[:2]
    fewer, context = rows["without more anchors for more photos"].model, torch.rand(4, 3, 64, 64)
    assert len(fewer.predict(context, postprocess="none").scene.anchors) == 1024
    assert len(model.predict(context, postprocess="none").scene.anchors) == 1448  # 1024 * 2^0.5


def test_an_unknown_row_of_limits_is_refused(benchmark, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["limits.py", "--only", "no stepz"])
    with pytest.raises(SystemExit):
        benchmark("limits").main()
    assert "no row 'no stepz'; choose from default steps, true focal length" in capsys.readouterr().err


def test_truth_comes_in_the_scale_and_world_of_the_prediction(benchmark) -> None:
    limits = benchmark("limits")
    context = cut_example(generate_room(7, 1, "test", num_views=5, size=128), FramePlan(2)).context
    draft = load_model("token_groups_tiny").encode(context.images)
    own = draft.geometry
    informed = limits.TrueGeometry(context, ("depth", "pose", "focal"))(draft).geometry
    torch.testing.assert_close(informed.cameras.cam_from_world[0], torch.eye(4))
    ratio = informed.depth / context.depth
    torch.testing.assert_close(ratio, ratio.median().expand_as(ratio), rtol=1e-4, atol=0)
    torch.testing.assert_close((own.depth / context.depth).median(), ratio.median())
    turned = informed.cameras.cam_from_world[1, :3, :3]
    first, second = context.cameras.cam_from_world[:, :3, :3]
    torch.testing.assert_close(turned, second @ first.T, rtol=0, atol=1e-5)
    unchanged = limits.TrueGeometry(context, ())(draft).geometry
    torch.testing.assert_close(unchanged.points, own.points, rtol=0, atol=1e-5)


def test_stores_are_compared_item_by_item(benchmark, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    script = benchmark("same_numbers")
    tensors = {"scene/means": torch.arange(4.0), "scene/ids": torch.arange(3)}
    numbers = {"evaluate/psnr": 20.0, "evaluate/lpips": None, "evaluate/data_sha256": "ab"}
    script.Store(tensors, numbers, {"api": "Old"}).save(tmp_path)
    old = script.Store.load(tmp_path)

    def outcome(tensors: dict = tensors, numbers: dict = numbers, tolerance: float = 1e-6) -> tuple[int, str]:
        code = script.compare(old, script.Store(tensors, numbers, {}), tolerance, only_differences=True)
        return code, capsys.readouterr().out

    code, text = outcome()
    assert code == 0 and "5 items: 5 equal, 0 within" in text and "psnr" not in text
    shifted = tensors | {"scene/means": torch.tensor([0.0, 1, 2, 3.001])}
    code, text = outcome(tensors=shifted)
    assert code == 1 and f"{0.001 / 14.006**0.5:.2e}".ljust(16) + "scene/means" in text
    code, text = outcome(tensors=shifted, tolerance=1e-3)
    assert code == 0 and "4 equal, 1 within" in text
    assert outcome(tensors=tensors | {"scene/means": torch.arange(5.0)})[0] == 1
    assert outcome(tensors=tensors | {"scene/ids": torch.tensor([0, 1, 3])})[0] == 1
    assert outcome(numbers=numbers | {"evaluate/psnr": 20.0001})[0] == 1
    assert outcome(numbers=numbers | {"evaluate/psnr": 20.0 + 1e-7})[0] == 0
    assert outcome(numbers=numbers | {"evaluate/lpips": 0.0})[0] == 1
    assert outcome(numbers=numbers | {"evaluate/data_sha256": "cd"})[0] == 1
    code, text = outcome(tensors={"scene/means": tensors["scene/means"], "scene/points": torch.arange(3)})
    assert code == 1 and "only in the old scene/ids" in text and "only in the new scene/points" in text


def test_numbers_near_zero_differ_by_an_absolute_amount(benchmark) -> None:
    difference = benchmark("same_numbers").difference
    assert difference(0.0, 1e-9) == 1e-9
    assert difference(2e-3, 1e-3) == 0.5
    assert difference(float("nan"), 1.0) == float("inf")


def test_initial_weights_go_to_renamed_parts(benchmark) -> None:
    script = benchmark("same_numbers")
    model = torch.nn.ModuleDict({"new": torch.nn.Linear(2, 3)})
    weight, bias = torch.rand(3, 2), torch.full((3,), 0.5)
    start = script.Store({"initial/a/old.w.weight": weight, "initial/a/old.w.bias": bias.half()}, {}, {})
    script.load_initial(model, start, "a", {"old.": "older.", "old.w.": "new."})
    torch.testing.assert_close(model["new"].weight.data, weight, rtol=0, atol=0)
    torch.testing.assert_close(model["new"].bias.data, bias, rtol=0, atol=0)


def test_times_and_texts_are_no_numbers(benchmark) -> None:
    found = benchmark("same_numbers").numbers_in(
        "e", {"psnr": 1.5, "query_ms": 2.0, "search_ms_gaussians": 3.0, "per_scene": [{"seconds": 4.0, "n": 5}],
              "name": "x", "lpips": None}
    )  # fmt: skip
    assert dict(found) == {"e/psnr": 1.5, "e/per_scene/0/n": 5, "e/lpips": None}


def test_blocks_of_large_scenes_are_where_they_should_be(benchmark, tmp_path: Path) -> None:
    """Every block owns its share and stands on the floor, most of them in view; the scene can be saved."""
    scale = benchmark("scale")
    scene = scale.blocks(scale.Size(4000, 30, 7))
    counts = torch.bincount(scene.assignment.argmax(dim=1)[scene.anchor_ids])
    assert counts.tolist() == [1013, *[103] * 29]
    assert torch.bincount(scene.anchor_ids).max() == 7
    assert sum(relation.kind == "on" for relation in found_relations(scene)) == 29
    assert (visible_shares(scene) > 0).float().mean() > 0.9
    save_scene(tmp_path / "scene.safetensors", scene)


def found_relations(scene: TokenScene) -> list[Relation]:
    return relations(oriented_boxes(scene, up_direction(scene)), scene.group_ids.tolist())


@pytest.mark.parametrize(("command", "most_mb"), [("list", 1000), ("export", 1000), ("render", 1500)])
def test_two_thousand_groups(benchmark, tmp_path: Path, command: str, most_mb: int) -> None:
    scale = benchmark("scale")
    scale.write(scale.SIZES["groups"], tmp_path, also_ply=False)
    seconds, megabytes = scale.cost(scale.COMMANDS[command].split(), tmp_path)
    assert seconds < 10 and 100 < megabytes < most_mb


@pytest.mark.slow
@pytest.mark.parametrize("size", ["gaussians", "both"])
def test_a_million_gaussians(benchmark, tmp_path: Path, size: str) -> None:
    scale = benchmark("scale")
    scale.write(scale.SIZES[size], tmp_path, also_ply=False)
    assert scale.cost(scale.COMMANDS["export"].split(), tmp_path)[0] < 10


def test_mask_votes_are_paired_by_seed(
    benchmark, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "votes.json"
    words = f"--weights {random_weights} --weight 0 1 --seeds 5 6 --rooms 1 --views 1 --json {out}"
    monkeypatch.setattr("sys.argv", ["mask_votes.py", *words.split()])
    benchmark("mask_votes").main()
    found = json.loads(out.read_text())
    names = ["without", "iggt_tiny, weight 0.0", "iggt_tiny, weight 1.0"]
    assert list(found["runs"]) == names and [len(runs) for runs in found["runs"].values()] == [2, 2, 2]
    for metric in ("ap_all", "t_miou", "ap_photos_all"):
        without, idle, votes = ([run[metric] for run in found["runs"][name]] for name in names)
        assert idle == without  # votes without weight change nothing
        mean, half = found["table"]["iggt_tiny, weight 1.0 - without"][metric]
        apart = np.array(votes) - without
        assert mean == pytest.approx(apart.mean())
        assert half == pytest.approx(12.7062 * abs(apart[0] - apart[1]) / 2, rel=1e-4)  # Student's t of one degree
    assert found["table"]["iggt_tiny, weight 1.0 - without"]["t_miou"][0] != 0
    assert "| iggt_tiny, weight 1.0 - without |" in capsys.readouterr().out
