"""Random edits with odd values: each is refused in one line, or makes a scene that saves, loads equal and renders."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzzing import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tokengroups as tg
from tokengroups.types import TokenScene

GROUPS: tuple[Any, ...] = (
    1, 2, 3, 4, np.int64(2), np.uint8(3), np.array(1), torch.tensor(2), torch.tensor(3, dtype=torch.int32), "ball",
    "2", " BOX ", [1, "ball"], np.array([3, 2]), torch.tensor([1]), {2},
    99, -1, 2**70, True, np.True_, torch.tensor(True), 1.0, np.float64(2), None, "", "chair", "1.5", "\udc80", b"1",
    [], [[]], object(),
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    0, 1, 2, -1, 0.5, 1e-3, np.float32(1.5), np.int64(2), np.array(0.25), torch.tensor(0.5), torch.tensor(2),
    1e-45, 1e-300, 1e8, 1e20, 1e30, 1e38, 1e39, 1e300, 10**30, 10**400, float("nan"), float("inf"), np.float32("-inf"),
    Fraction(3, 4), True, "2", None, 1j, [1.0],
)  # fmt: skip
VECTORS: tuple[Any, ...] = (
    (0.1, 0, 0), [0, np.float32(0.2), torch.tensor(1)], np.array([0.0, 0.5, 0.0]), torch.tensor([0.0, 0.0, 0.3]),
    torch.ones(3, dtype=torch.float64, requires_grad=True), np.ones(3, np.int8),
    (0, 0), (0, 0, 0, 0), np.ones((3, 3)), "xyz", None, 5, {}, (True, 0, 0), ("1", "2", "3"),
    (1e38, 0, 0), (1e39, 0, 0), (float("nan"), 0, 0), (10**400, 0, 0),
)  # fmt: skip
AXES = ("x", "Y", "z", "w", "", 5)

group, number = st.sampled_from(GROUPS), st.one_of(st.sampled_from(NUMBERS), st.floats(width=32))
vector = st.one_of(st.sampled_from(VECTORS), st.tuples(number, number, number))
EDITS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "remove": st.tuples(group),
    "keep": st.tuples(group),
    "move": st.tuples(group, vector),
    "rotate": st.tuples(group, st.one_of(st.sampled_from(AXES), vector), number),
    "scale": st.tuples(group, number),
    "duplicate": st.tuples(group, vector),
    "insert": st.tuples(group, vector),
    "rename": st.tuples(group, st.sampled_from(("lamp", "", " a  b ", "7", "-x", "\udc80", None, 5, b"x"))),
    "merge": st.tuples(st.one_of(group, st.lists(group, max_size=3))),
    "rescale": st.tuples(number),
    "split": st.tuples(group, st.one_of(st.none(), vector, st.tuples(*[number] * 6))),
}
edit = st.one_of(*(values.map(lambda words, name=name: (name, words)) for name, values in EDITS.items()))


def apply(scene: TokenScene, name: str, words: tuple[Any, ...]) -> TokenScene:
    if name == "insert":
        return tg.insert(scene, scene, *words)
    function: Callable[..., TokenScene] = getattr(tg, name)
    return function(scene, *words)


def assert_equal(one: Any, two: Any) -> None:
    """Tensors bit by bit; all else by value."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            assert_equal(getattr(one, name), getattr(two, name))
    else:
        assert one == two


@settings(max_examples=examples(100), deadline=None, derandomize=examples(1) == 1)
@given(edits=st.lists(edit, min_size=1, max_size=6))
@example(edits=[("scale", (2, 1e8))] * 5)
@example(edits=[("move", (3, (1e38, 0, 0)))] * 9)
@example(edits=[("insert", (3, (0, 0, 1)))] * 12)
@example(edits=[("merge", ([2, 3],)), ("split", (2, None)), ("split", (2, (-9, -9, 3.2, 9, 9, 9))), ("split", (4,))])
def test_an_edit_is_refused_or_its_scene_can_be_saved_and_rendered(edits: list[tuple[str, tuple[Any, ...]]]) -> None:
    scene = tg.example_scene()
    done = []
    for name, words in edits:
        try:
            scene = apply(scene, name, words)
        except tg.UserError as error:
            assert str(error) and "\n" not in str(error)
        else:
            done.append(name)
    with tempfile.TemporaryDirectory() as folder:
        tg.save_scene(Path(folder) / "scene.safetensors", scene)
        again = tg.load_scene(Path(folder) / "scene.safetensors")
    assert_equal(again, scene.detach())
    json.dumps(scene.provenance, allow_nan=False)
    assert [entry["operation"] for entry in again.provenance.get("edits", [])] == done
    for view in tg.render_views(again, again.cameras):
        assert bool(view.color.isfinite().all()) and bool(view.depth.isfinite().all())
