"""The loop over the groups of a scene: plan the questions, ask them, unite the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tokengroups.errors import UserError
from tokengroups.grounding.answers import Answer, Answerer, Question
from tokengroups.grounding.pictures import ScenePictures
from tokengroups.reading import shown
from tokengroups.scene.groups import group_name
from tokengroups.types import TokenScene

Combination = Literal["together", "union", "majority"]
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)


@dataclass(frozen=True)
class Call:
    """One question about one group; the views whose pictures go with it."""

    group: int
    views: tuple[int, ...]


@dataclass(frozen=True)
class GroupAnswer:
    """What was answered about one group."""

    id: int
    name: str  # "" = unnamed
    yes: bool
    probability: float | None  # of yes; None = unknown
    views: tuple[int, ...]  # context views that were shown
    answers: tuple[Answer, ...]  # one for all views together, or one a view


@dataclass(frozen=True)
class Grounding:
    """The groups that a sentence means, and how that was found."""

    sentence: str
    ids: tuple[int, ...]  # of the groups with the answer yes, in the scene's order
    groups: tuple[GroupAnswer, ...]
    unseen: tuple[int, ...]  # groups that no view shows: nothing was asked about them

    @property
    def malformed(self) -> tuple[Answer, ...]:
        """Answers that were neither yes nor no, and counted as no."""
        return tuple(answer for group in self.groups for answer in group.answers if answer.malformed)

    def notes(self) -> list[str]:
        """What the user should know, one line each."""
        notes, bad = [], self.malformed
        if bad:
            count = sum(len(group.answers) for group in self.groups)
            what = f"{len(bad)} of {count} answers were neither yes nor no, and counted as no"
            notes.append(f"{what}; the first: '{shown(bad[0].text)}'")
        if self.unseen:
            some = ", ".join(map(str, self.unseen[:10])) + (", ..." if len(self.unseen) > 10 else "")
            notes.append(f"nothing was asked about groups that hardly a view shows: {some}")
        return notes


def ground(
    scene: TokenScene,
    sentence: str,
    answerer: Answerer,
    pictures: ScenePictures | None = None,
    combine: Combination = "together",
    watch: Callable[[Sequence[Call]], Iterable[Call]] = iter,
) -> Grounding:
    """Find the groups that a sentence means by one question, or one per view, about every group.

    Args:
        scene: The scene.
        sentence: What to look for.
        answerer: Who answers.
        pictures: Of the scene; needed if the answerer looks at them.
        combine: ``together``: one question with all views of a group. Else one a view; a group belongs to the result if
            any view (``union``) or more than half of them (``majority``) are answered yes.
        watch: Passes the calls on, such as a progress bar.

    Raises:
        UserError: An empty sentence, or the answerer's errors.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.grounding import OfflineAnswerer, ground
        >>> scene = tg.example_scene()
        >>> ground(scene, "the ball right of the box", OfflineAnswerer(scene)).ids
        (3,)
    """
    if not sentence.strip():
        raise UserError("the question is empty; say what to look for, e.g. 'the chair nearest to the window'")
    calls, unseen = plan_calls(scene, answerer, pictures, combine)
    given: dict[int, list[Answer]] = {}
    for call in watch(calls):
        images = [pictures.marked(call.group, view) for view in call.views] if pictures is not None else []
        answer = answerer.ask(images, Question(sentence, call.group, len(images)))
        given.setdefault(call.group, []).append(answer)
    views: dict[int, tuple[int, ...]] = {}
    for call in calls:
        views[call.group] = views.get(call.group, ()) + call.views
    names = {group: group_name(scene, column) for column, group in enumerate(scene.group_ids.tolist())}
    groups = tuple(
        _united(group, names[group], views[group], tuple(answers), combine) for group, answers in given.items()
    )
    return Grounding(sentence, tuple(group.id for group in groups if group.yes), groups, unseen)


def plan_calls(
    scene: TokenScene, answerer: Answerer, pictures: ScenePictures | None, combine: Combination
) -> tuple[list[Call], tuple[int, ...]]:
    """The calls that `ground` makes, and the groups that it leaves out because no view shows them."""
    if not answerer.looks:
        return [Call(group, ()) for group in scene.group_ids.tolist()], ()
    if pictures is None:
        raise ValueError("this answerer looks at pictures: give ScenePictures(scene)")
    views = pictures.best_views()
    unseen = tuple(group for group, mine in views.items() if not mine)
    seen = {group: mine for group, mine in views.items() if mine}
    if combine == "together":
        return [Call(group, mine) for group, mine in seen.items()], unseen
    return [Call(group, (view,)) for group, mine in seen.items() for view in mine], unseen


def _united(
    group: int, name: str, views: tuple[int, ...], answers: tuple[Answer, ...], combine: Combination
) -> GroupAnswer:
    votes = sum(answer.yes for answer in answers)
    yes = votes > len(answers) / 2 if combine == "majority" else votes > 0
    known = [answer.probability for answer in answers if answer.probability is not None]
    probability = None
    if known:
        probability = max(known) if combine == "union" else sum(known) / len(known)
    return GroupAnswer(group, name, yes, probability, views, answers)
