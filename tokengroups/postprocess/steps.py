"""The interface of optional steps between photos and scene, and lists of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from tokengroups.config import build_config, config_to_dict
from tokengroups.encoders import Encoder
from tokengroups.errors import UserError
from tokengroups.postprocess.draft import Draft
from tokengroups.reading import shown
from tokengroups.registry import resolve

STEPS = {
    "bundle_adjustment": "tokengroups.postprocess.bundle_adjustment:BundleAdjustment",
    "multi_view_stereo": "tokengroups.postprocess.multi_view_stereo:MultiViewStereo",
    "flip_ensemble": "tokengroups.postprocess.flip_ensemble:FlipEnsemble",
    "photometric_refinement": "tokengroups.postprocess.photometric:PhotometricRefinement",
    "densify": "tokengroups.postprocess.densify:Densify",
    "boundary_crf": "tokengroups.postprocess.boundary_crf:BoundaryCRF",
    "mask_votes": "tokengroups.systems.mask_votes:MaskVotes",
}
PHASES = ("before_decoding", "after_decoding")
StepSpec = str | dict[str, Any]  # a name, or {"name": ..., setting: value}


@runtime_checkable
class Step(Protocol):
    """A step from draft to draft: a frozen dataclass whose fields are its settings.

    One that loads weights also has their `licence`, "" if they ask for none, for notes and the provenance of scenes.
    Your own needs one file; name it ``package.module:Class`` wherever a step is asked for::

        @dataclass(frozen=True)
        class Brighten:
            gain: float = 1.1
            when: ClassVar = "after_decoding"
            needs: ClassVar = frozenset()

            def __call__(self, draft):
                prediction = draft.predicted()
                brighter = replace(prediction.gaussians, sh=prediction.gaussians.sh * self.gain)
                return replace(draft, prediction=replace(prediction, gaussians=brighter))
    """

    @property
    def when(self) -> Literal["before_decoding", "after_decoding"]:
        """A step before decoding changes geometry, and training may ask for it; one after it changes predictions."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Names of the evidence in `Geometry.evidence` that it cannot do without."""
        ...

    def __call__(self, draft: Draft) -> Draft:
        """Return a changed draft; the one given stays as it was."""
        ...


def build_steps(specs: Iterable[StepSpec], where: str, *, typed: bool = True) -> tuple[Step, ...]:
    """Build steps from names, or mappings of a name and settings.

    Args:
        specs: In the order of execution.
        where: Their source, for messages.
        typed: Whether a user typed the names; see `tokengroups.registry.resolve`.

    Raises:
        UserError: An unknown name, no step, an unknown setting, or a value of the wrong type.

    Example:
        >>> from tokengroups.postprocess import build_steps, describe_steps
        >>> steps = build_steps([{"name": "photometric_refinement", "steps": 5}], "an example")
        >>> describe_steps(steps)
        [{'name': 'photometric_refinement', 'steps': 5, 'full_steps': 30, 'full_size': 256}]
    """
    steps = []
    for spec in specs:
        settings = {"name": spec} if isinstance(spec, str) else dict(spec)
        name = settings.pop("name", None)
        if not isinstance(name, str):
            raise UserError(f"{where}: a step is a name or a mapping with 'name', got {shown(repr(spec))}")
        try:
            kind = resolve(name, STEPS, "step", typed=typed)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        is_dataclass = isinstance(kind, type) and dataclasses.is_dataclass(kind)
        step = build_config(kind, settings, f"{where}: {name}") if is_dataclass else None
        steps.append(_checked(step, f"{where}: {name}"))
    return tuple(steps)


def choose_steps(choice: str | Sequence[Step], default: Sequence[Step]) -> tuple[Step, ...]:
    """Resolve ``none``, ``default`` or ``NAME[,NAME...]``; a name among the default ones keeps their settings.

    ``default`` among the names stands for all of them: ``default,my_steps:Brighten``.

    Raises:
        UserError: An unknown name, or something that is no step.
    """
    if not isinstance(choice, str):
        return tuple(_checked(step, type(step).__name__) for step in choice)
    if choice == "default":
        return tuple(default)
    if choice == "none":
        return ()
    own = {step_name(step): (step,) for step in default} | {"default": tuple(default)}
    names = [name.strip() for name in choice.split(",")]
    chosen = [own[name] if name in own else build_steps([name], "--postprocess") for name in names]
    return tuple(step for steps in chosen for step in steps)


def check_evidence(steps: Iterable[Step], encoder: Encoder) -> None:
    """Refuse steps that need evidence which the encoder does not give.

    Raises:
        UserError: Names the step and the evidence.
    """
    for step in steps:
        missing = sorted(step.needs - encoder.evidence_dims.keys())
        if missing:
            raise UserError(
                f"the step {step_name(step)} needs {', '.join(missing)}, which {type(encoder).__name__} does not "
                "predict; leave it out, or use an encoder that does"
            )


def run_steps(draft: Draft, steps: Iterable[Step], when: str) -> Draft:
    """Run the steps of one phase in their order."""
    for step in steps:
        if step.when == when:
            draft = step(draft)
    return draft


def step_name(step: Step) -> str:
    """The short name of a built-in step, ``package.module:Class`` of any other."""
    path = f"{type(step).__module__}:{type(step).__qualname__}"
    return next((name for name in STEPS if resolve(name, STEPS, "step") is type(step)), path)


def describe_steps(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Names and settings as plain values, as `build_steps` reads them."""
    return [{"name": step_name(step), **_settings(step)} for step in steps]


def _checked(step: Any, where: str) -> Step:
    """Refuse what is no step, and one that no phase would run."""
    if not isinstance(step, Step):
        raise UserError(f"{where}: no step; it must be a dataclass with `when`, `needs` and `__call__(draft)`")
    if step.when not in PHASES:
        raise UserError(f"{where}: `when` must be {' or '.join(PHASES)}, got {step.when!r}")
    if "name" in _settings(step):
        raise UserError(f"{where}: its setting 'name' would hide the step's own name; call it otherwise")
    return step


def _settings(step: Step) -> Mapping[str, Any]:
    return config_to_dict(step) if dataclasses.is_dataclass(step) else {}
