"""Steps called on drafts of the shipped model: the same as in `predict`, and the draft given stays as it was."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.postprocess import Draft, Reconstruction, Step, token_scene
from tokengroups.postprocess.boundary_crf import BoundaryCRF
from tokengroups.postprocess.bundle_adjustment import BundleAdjustment
from tokengroups.postprocess.densify import Densify
from tokengroups.postprocess.flip_ensemble import FlipEnsemble
from tokengroups.postprocess.multi_view_stereo import MultiViewStereo
from tokengroups.postprocess.photometric import PhotometricRefinement
from tokengroups.systems import SceneSystem, load_model
from tokengroups.systems.mask_votes import MaskVotes

BEFORE = (BundleAdjustment(), MultiViewStereo())
AFTER = (FlipEnsemble(), PhotometricRefinement(3), Densify(steps=1), BoundaryCRF(iterations=2), MaskVotes())
STEPS = BEFORE + AFTER


@pytest.fixture(scope="module")
def model() -> SceneSystem:
    return load_model("token_groups_tiny")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return to_views(generate_room(5, 0, "test", num_views=5, size=64), [1, 3]).images


@pytest.fixture(scope="module")
def decoded(model, photos) -> Draft:
    with torch.no_grad():
        return model.decode(model.encode(photos))


def tensors_of(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of nested dataclasses, tuples and mappings."""
    if isinstance(value, Tensor):
        return {prefix: value}
    if is_dataclass(value):
        items: Any = ((f.name, getattr(value, f.name)) for f in fields(value))
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, tuple):
        items = enumerate(value)
    else:
        return {}
    return {k: v for name, item in items for k, v in tensors_of(item, f"{prefix}.{name}").items()}


def finish(draft: Draft) -> Reconstruction:
    return Reconstruction(token_scene(draft, {}), draft.geometry.depth, draft.predicted().anchor_pixels)


def assert_equal(one: Any, other: Any) -> None:
    left, right = tensors_of(one), tensors_of(other)
    assert left.keys() == right.keys() and len(left) > 10
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_on_a_draft_is_what_predict_runs(model, photos, step):
    with torch.no_grad():
        draft = model.encode(photos)
        draft = model.decode(step(draft)) if step.when == "before_decoding" else step(model.decode(draft))
    expected = model.predict(photos, postprocess=[step])
    assert_equal(finish(draft), expected)
    plain = model.predict(photos, postprocess="none")
    names = tensors_of(plain)
    changed = {name for name, value in tensors_of(expected).items() if not torch.equal(value, names[name])}
    assert changed, "the step does something"
    if step.when == "after_decoding":
        assert not any("camera" in name or "depth" in name or "anchors" in name for name in changed)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_leaves_the_draft_that_it_is_given(model, photos, decoded, step):
    draft = model.encode(photos) if step.when == "before_decoding" else decoded
    before = {name: value.clone() for name, value in tensors_of(draft).items()}
    versions = {name: value._version for name, value in tensors_of(draft).items()}
    given, prediction = replace(draft), draft.prediction
    with torch.no_grad():
        result = step(draft)
    assert isinstance(result, Draft) and result is not draft
    assert draft.prediction is prediction and given.geometry is draft.geometry
    after = tensors_of(draft)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name: value._version for name, value in after.items()} == versions
    assert any(not torch.equal(value, before[name]) for name, value in tensors_of(result).items())


@pytest.mark.parametrize("step", AFTER, ids=lambda step: type(step).__name__)
def test_steps_on_predictions_wait_for_decoding(model, photos, step):
    with pytest.raises(ValueError, match="run it after decoding"), torch.no_grad():
        step(model.encode(photos))


@dataclass(frozen=True)
class Note:
    """Remembers what it was given."""

    seen: ClassVar[list[tuple[str, bool]]] = []
    word: str = ""
    when: ClassVar[str] = "after_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, draft: Draft) -> Draft:
        self.seen.append((self.word, draft.prediction is not None))
        return draft


@dataclass(frozen=True)
class EarlyNote(Note):
    when: ClassVar[str] = "before_decoding"


def test_decoding_lies_between_the_phases_wherever_a_step_stands_in_the_list(model, photos):
    Note.seen.clear()
    steps: list[Step] = [Note("a"), EarlyNote("b"), Note("c"), EarlyNote("d")]
    scene = model.reconstruct(photos, postprocess=steps)
    assert Note.seen == [("b", False), ("d", False), ("a", True), ("c", True)]
    assert [step["name"].partition(":")[2] for step in scene.provenance["postprocess"]] == [
        "Note", "EarlyNote", "Note", "EarlyNote",
    ]  # fmt: skip


def test_the_order_of_the_list_counts_within_a_phase(model, photos, decoded):
    """The boundary CRF's answer depends on the assignment that it is given."""
    flip, crf = FlipEnsemble(), BoundaryCRF(iterations=2)
    with torch.no_grad():
        one, other = crf(flip(decoded)), flip(crf(decoded))
    assert_equal(finish(one), model.predict(photos, postprocess=[flip, crf]))
    assert_equal(finish(other), model.predict(photos, postprocess=[crf, flip]))
    assert not torch.allclose(one.predicted().assignment, other.predicted().assignment)


def test_default_steps_are_those_of_the_weights(model, photos):
    default = model.predict(photos)
    assert_equal(default, model.predict(photos, postprocess=model.steps))
    names = "bundle_adjustment,multi_view_stereo,flip_ensemble,photometric_refinement,densify,boundary_crf"
    assert_equal(default, model.predict(photos, postprocess=names))
    assert [step["name"] for step in default.scene.provenance["postprocess"]] == names.split(",")


def test_scenes_take_the_names_and_scores_of_the_groups_that_own_anchors(decoded):
    prediction = decoded.predicted()
    count = prediction.assignment.shape[1]
    names, scores = tuple(f"thing {index}" for index in range(count)), torch.linspace(0.1, 0.9, count)
    named = replace(decoded, prediction=replace(prediction, group_names=names, group_scores=scores))
    scene, plain = token_scene(named, {}), token_scene(decoded, {})
    ids = scene.group_ids.tolist()
    assert 1 < len(ids) < count
    assert scene.group_names == tuple(f"thing {index}" for index in ids)
    assert scene.group_scores is not None and torch.equal(scene.group_scores, scores[ids])
    assert plain.group_names == () and plain.group_scores is None
