"""Data sets by name: the built-in ones, one of one's own, and who may know the generator."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from insscene_folders import write_scannetpp

from tokengroups.data.base import DATASETS, MEASURED, WATCHED, Dataset, FrameSequence, choose_split, open_dataset
from tokengroups.data.example import FramePlan, cut_example
from tokengroups.data.procedural import CLASS_NAMES, generate_room
from tokengroups.data.readers.scannet import write_scannet
from tokengroups.data.stream import ExampleConfig, ExampleStream, held_out_examples
from tokengroups.errors import UserError
from tokengroups.types import SceneFrames

PACKAGE = Path(__file__).parents[1] / "tokengroups"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example of `Dataset`'s docstring as a file, and a folder of ten rooms for it."""
    docstring = inspect.cleandoc(Dataset.__doc__ or "")
    code = docstring[docstring.index("    class MyRooms:") : docstring.index("Training draws")]
    imports = "from pathlib import Path\nimport numpy as np\nfrom tokengroups.types import SceneFrames\n"
    (tmp_path / "my_rooms.py").write_text(imports + textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_rooms", raising=False)
    folder = tmp_path / "rooms"
    folder.mkdir()
    for index in range(10):
        frames = generate_room(3, index, num_views=3, size=16)
        values = {f.name: getattr(frames, f.name) for f in fields(frames) if f.name not in ("name", "instance_classes")}
        arrays = {name: value for name, value in values.items() if value is not None}
        names = [frames.instance_classes[number] for number in range(len(frames.instance_classes))]
        np.savez(folder / f"room{index}.npz", class_of_id=np.array(names), **arrays)
    return folder


def test_ones_own_data_set_trains_and_is_held_out(own: Path) -> None:
    dataset = open_dataset("my_rooms:MyRooms", own)
    assert len(dataset) == 10 and dataset.class_names[0] == "wall"
    assert choose_split(dataset, WATCHED) == choose_split(dataset, MEASURED) == "val"
    truth = generate_room(3, 9, num_views=3, size=16)
    np.testing.assert_array_equal(dataset[9][:].images, truth.images)
    config = ExampleConfig(
        dataset="my_rooms:MyRooms", root=str(own), num_frames=3, size=16, context_views=1, evaluation_scenes=4
    )
    stream = ExampleStream(config, seed=0, batch_size=3)
    names = {name for step in range(3) for name in stream.batch(step, range(3)).names}
    assert names == {f"room{index}" for index in range(9)}
    (example,) = held_out_examples(config)
    assert example.names == ("room9",) and example.classes == (truth.instance_classes,)
    assert torch.equal(example.targets.images, cut_example(truth, FramePlan(1)).targets.images)


def test_built_in_data_sets_are_data_sets(tmp_path: Path) -> None:
    write_scannet(tmp_path / "a", generate_room(1, 0, num_views=4, size=32))
    rooms, scans = open_dataset("procedural", num_frames=3, size=16), open_dataset("scannet", tmp_path)
    write_scannetpp(tmp_path / "insscene", "b", generate_room(1, 0, num_views=4, size=32))
    for dataset in (rooms, scans, open_dataset("insscene", tmp_path / "insscene")):
        scene = dataset[dataset.splits["train"][0]]
        assert isinstance(dataset, Dataset) and isinstance(scene, FrameSequence)
        last = scene[1::2]
        assert isinstance(last, SceneFrames) and len(last) == len(scene) // 2
        np.testing.assert_array_equal(last.depth, scene[:].depth[1::2])
    assert rooms.class_names == CLASS_NAMES and choose_split(rooms, MEASURED) == "test"
    assert choose_split(rooms, WATCHED) == "val" and set(DATASETS) == {"procedural", "scannet", "capture", "insscene"}
    with pytest.raises(UserError, match=r"no scene in the split val or test; its splits are: train \(1\), val \(0\)"):
        choose_split(scans, WATCHED)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nobody", {}, "no data set 'nobody'; choose from procedural, scannet, capture"),
        ("scannet", {}, "scannet: it needs its folder"),
        ("my_rooms:MyRooms", {"colour": 1}, "it has no option 'colour'; it takes root"),
        ("procedural", {"seed": [1]}, "did you mean 'seeds'"),
        ("fractions:Fraction", {}, "its class lacks class_names, splits"),
    ],
)
def test_what_cannot_be_opened_is_refused(own: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_dataset(name, own if name.startswith("my_rooms") else None, options=options)


def test_protocols_are_short() -> None:
    for protocol in (Dataset, FrameSequence):
        assert len(inspect.getsource(protocol).splitlines()) <= 40


def imported(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_nothing_outside_knows_the_generator() -> None:
    generator = "tokengroups.data.procedural"
    outside = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "data" / "procedural" not in path.parents]
    assert len(outside) > 100
    for path in outside:
        assert not any(name == generator or name.startswith(f"{generator}.") for name in imported(path)), path
    inside = PACKAGE / "data" / "procedural" / "cache.py"
    assert any(name.startswith(generator) for name in imported(inside))  # the search finds what there is
