"""Lists of steps: names, settings, choices, what is refused, and steps of one's own."""

from __future__ import annotations

import inspect
import sys
import textwrap
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import pytest
import torch
from toy_systems import ENCODER, GROUPS, random_photos

from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.postprocess import (
    STEPS,
    Draft,
    Step,
    build_steps,
    check_evidence,
    choose_steps,
    describe_steps,
    run_steps,
    step_name,
)
from tokengroups.postprocess.boundary_crf import BoundaryCRF
from tokengroups.postprocess.bundle_adjustment import BundleAdjustment
from tokengroups.postprocess.densify import Densify
from tokengroups.postprocess.flip_ensemble import FlipEnsemble
from tokengroups.postprocess.multi_view_stereo import MultiViewStereo
from tokengroups.postprocess.photometric import PhotometricRefinement
from tokengroups.registry import resolve
from tokengroups.systems import load_model
from tokengroups.systems.mask_votes import MaskVotes
from tokengroups.systems.token_groups import TokenGroups

KINDS = {
    "bundle_adjustment": BundleAdjustment,
    "multi_view_stereo": MultiViewStereo,
    "flip_ensemble": FlipEnsemble,
    "photometric_refinement": PhotometricRefinement,
    "densify": Densify,
    "boundary_crf": BoundaryCRF,
    "mask_votes": MaskVotes,
}
OWN = """\
from __future__ import annotations
from dataclasses import dataclass, replace
from typing import ClassVar

"""


@dataclass(frozen=True)
class Silence:
    """A step of these tests: it changes nothing."""

    volume: float = 0.5

    when: ClassVar[str] = "after_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, draft: Draft) -> Draft:
        return draft


@dataclass(frozen=True)
class Late(Silence):
    when: ClassVar[str] = "afterwards"


@dataclass(frozen=True)
class Named(Silence):
    name: str = "silence"


@dataclass(frozen=True)
class NoCall:
    when: ClassVar[str] = "after_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()


@pytest.fixture
def model() -> TokenGroups:
    torch.manual_seed(0)
    return TokenGroups(VGGT(ENCODER), GROUPS).eval()


@pytest.fixture
def example(tmp_path, monkeypatch) -> str:
    """The example of the documentation of `Step`, in one new file of the working folder."""
    code = textwrap.dedent(inspect.getdoc(Step).partition("::\n\n")[2])
    (tmp_path / "my_step.py").write_text(OWN + code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_step", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return "my_step:Brighten"


def test_every_built_in_step_has_its_name_and_keeps_the_interface():
    assert {name: resolve(name, STEPS, "step") for name in STEPS} == KINDS
    for name, kind in KINDS.items():
        step = kind()
        assert isinstance(step, Step) and step_name(step) == name
        assert step.when == ("before_decoding" if kind in (BundleAdjustment, MultiViewStereo) else "after_decoding")


def test_names_and_settings_build_steps_in_their_order():
    spec = {"name": "bundle_adjustment", "search_radii_px": [4, 2], "patch_stds_px": [1, 0.5]}
    built = build_steps([spec, "flip_ensemble", {"name": "boundary_crf", "iterations": 3}], "x.yaml")
    adjustment = BundleAdjustment(search_radii_px=(4, 2), patch_stds_px=(1.0, 0.5))
    assert built == (adjustment, FlipEnsemble(), BoundaryCRF(iterations=3))
    assert spec["name"] == "bundle_adjustment"  # not eaten


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sharpening", "x.yaml: no step 'sharpening'; choose from bundle_adjustment, multi_view_stereo, "),
        ({"steps": 3}, "x.yaml: a step is a name or a mapping with 'name', got {'steps': 3}"),
        ({"name": 3}, "x.yaml: a step is a name or a mapping with 'name', got {'name': 3}"),
        (
            {"name": "photometric_refinement", "step": 3},
            "x.yaml: photometric_refinement: unknown key 'step'; did you mean 'steps'?",
        ),
        (
            {"name": "photometric_refinement", "steps": "many"},
            "x.yaml: photometric_refinement: the key 'steps' must be a whole number from 0 to 1,000, got 'many'",
        ),
        (
            {"name": "photometric_refinement", "steps": -1},
            "x.yaml: photometric_refinement: the key 'steps' must be a whole number from 0 to 1,000, got -1",
        ),
        ("no_such_module:Step", "x.yaml: no step 'no_such_module:Step': there is no module no_such_module"),
        ("pathlib:Path", "x.yaml: pathlib:Path: no step; it must be a dataclass with `when`"),
        ("test_postprocess_steps:NoCall", "x.yaml: test_postprocess_steps:NoCall: no step; it must be a dataclass"),
        ("test_postprocess_steps:example", "x.yaml: test_postprocess_steps:example: no step; it must be"),
        ("test_postprocess_steps:Named", "x.yaml: test_postprocess_steps:Named: its setting 'name' would hide"),
        (
            "test_postprocess_steps:Late",
            "x.yaml: test_postprocess_steps:Late: `when` must be before_decoding or after_decoding, got 'afterwards'",
        ),
    ],
)
def test_wrong_specifications_are_one_line(spec, message):
    with pytest.raises(UserError) as error:
        build_steps([spec], "x.yaml")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_none_default_and_names():
    own = (PhotometricRefinement(7), BoundaryCRF(iterations=2))
    assert choose_steps("default", own) == own and choose_steps("none", own) == ()
    chosen = choose_steps("flip_ensemble, photometric_refinement", own)
    assert chosen == (FlipEnsemble(), PhotometricRefinement(7))  # a default one keeps its settings
    assert choose_steps("photometric_refinement", ()) == (PhotometricRefinement(20),)
    assert choose_steps("flip_ensemble,default", own) == (FlipEnsemble(), *own)  # all of them
    assert choose_steps([FlipEnsemble()], own) == (FlipEnsemble(),)
    for wrong in ("", "flip_ensemble,", "none,flip_ensemble", "Flip_Ensemble"):
        with pytest.raises(UserError, match=r"--postprocess: no step '\w*'; choose from bundle_adjustment, "):
            choose_steps(wrong, own)
    with pytest.raises(UserError, match="Late: `when` must be before_decoding or after_decoding"):
        choose_steps([Late()], own)


def test_descriptions_build_the_same_steps_again():
    steps = (
        BundleAdjustment(search_radii_px=(4, 2), patch_stds_px=(1.0, 0.5), rigid_stages=1),
        PhotometricRefinement(3),
        FlipEnsemble(),
        BoundaryCRF(pair_weight=0.25),
        Silence(0.125),
    )
    described = describe_steps(steps)
    assert described[1] == {"name": "photometric_refinement", "steps": 3, "full_steps": 30, "full_size": 256}
    assert described[4] == {"name": f"{__name__}:Silence", "volume": 0.125}
    assert all(set(entry) == {"name", *(f.name for f in fields(s))} for entry, s in zip(described, steps, strict=True))
    assert build_steps(described, "a file", typed=False) == steps


def test_the_shipped_steps_are_their_own_description():
    steps = load_model("token_groups_tiny").steps
    assert [step_name(step) for step in steps] == [name for name in STEPS if name != "mask_votes"]
    assert build_steps(describe_steps(steps), "a file", typed=False) == steps


def test_missing_evidence_names_the_step_and_the_encoder(model):
    needing = replace(Silence())
    object.__setattr__(needing, "needs", frozenset({"smell", "taste"}))
    message = f"the step {__name__}:Silence needs smell, taste, which VGGT does not predict; leave it out, or use"
    with pytest.raises(UserError, match=message):
        check_evidence([FlipEnsemble(), needing], model.encoder)
    check_evidence([FlipEnsemble(), BundleAdjustment()], model.encoder)  # they need none


def test_only_the_steps_of_a_phase_are_run_in_their_order(model):
    draft = model.encode(random_photos())
    seen = []

    @dataclass(frozen=True)
    class Noting(Silence):
        word: str = ""

        def __call__(self, draft: Draft) -> Draft:
            seen.append(self.word)
            return replace(draft, fps_start=len(seen))

    early = Noting(word="c")
    object.__setattr__(early, "when", "before_decoding")
    steps = (Noting(word="a"), early, Noting(word="b"))
    assert run_steps(draft, steps, "after_decoding").fps_start == 2 and seen == ["a", "b"]
    assert run_steps(draft, steps, "before_decoding").fps_start == 3 and seen == ["a", "b", "c"]
    assert draft.fps_start is None


def test_a_step_of_ones_own_needs_one_file(example, model):
    photos = random_photos()
    plain, brighter = model.predict(photos), model.predict(photos, postprocess=example)
    torch.testing.assert_close(brighter.scene.gaussians.sh, 1.1 * plain.scene.gaussians.sh)
    assert brighter.scene.provenance["postprocess"] == [{"name": example, "gain": 1.1}]
    kind = resolve(example, STEPS, "step")
    darker = model.predict(photos, postprocess=[kind(gain=0.5), FlipEnsemble()]).scene
    torch.testing.assert_close(darker.gaussians.sh, 0.5 * plain.scene.gaussians.sh)
    (built,) = build_steps([{"name": example, "gain": 0.5}], "x.yaml")
    assert built == kind(gain=0.5) and isinstance(built, Step) and step_name(built) == example


def test_a_file_never_imports_a_step_of_its_choice(example):
    with pytest.raises(UserError, match="a file asks for the step 'my_step:Brighten'; if you trust it, import my_step"):
        build_steps([example], "config.json", typed=False)
    assert "my_step" not in sys.modules
    build_steps([example], "config.json")  # typed by a user, who trusts it
    assert build_steps([example], "config.json", typed=False)[0].gain == 1.1


def test_the_command_line_offers_every_step():
    from tokengroups.cli.arguments import STEP_NAMES

    assert STEP_NAMES == tuple(STEPS)
