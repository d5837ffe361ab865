"""Questions about one group of a scene, and answers to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

# The first word; neither "yesterday" nor the echo "yes or no" is an answer.
_FIRST_WORD = re.compile(r"[\W_]*(yes|no)(?![^\W_])(?!\s*(?:/|or\b)\s*(?:yes|no)\b)", re.IGNORECASE)
_MARKUP = re.compile(r"[<>\[\]{}|`\"\\]+")  # with which models mark turns and pictures


@dataclass(frozen=True)
class Answer:
    """Answer to one question; one that is neither yes nor no counts as no."""

    yes: bool
    probability: float | None = None  # of yes; None = unknown
    text: str = ""  # as it was given
    malformed: bool = False


@dataclass(frozen=True)
class Question:
    """Whether a sentence means one group."""

    sentence: str  # of the user
    group: int  # public id
    num_pictures: int = 0

    @property
    def text(self) -> str:
        """What a vision-language model is asked. No word of it comes from the scene."""
        sentence = " ".join(_MARKUP.sub(" ", self.sentence).split())
        shown = "In the picture of a room, one object is"
        if self.num_pictures > 1:
            shown = f"In each of the {self.num_pictures} pictures of a room, one and the same object is"
        return (
            f"{shown} painted red and has a yellow outline. Somebody asks for: '{sentence}'. Is the marked object "
            "what is asked for, or one of several that are? Compare it with the rest of the room. "
            "Answer with one word, yes or no."
        )


@runtime_checkable
class Answerer(Protocol):
    """Whoever answers questions about groups, such as a vision-language model.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.grounding import Answer, ScenePictures, ground
        >>> class ReddestObject:
        ...     looks = True
        ...
        ...     def ask(self, images, question):
        ...         return Answer(question.group == 2, text="I know the box")
        >>> scene = tg.example_scene()
        >>> ground(scene, "something red", ReddestObject(), ScenePictures(scene, size=64)).ids
        (2,)
    """

    looks: bool  # whether it wants pictures

    def ask(self, images: Sequence[Float[Tensor, "H W 3"]], question: Question) -> Answer:
        """Answer a question about the object that is marked in the pictures, colours in [0, 1].

        Raises:
            UserError: There is no answer, and asking again would not help.
        """
        ...


def parse_answer(text: str, probability: float | None = None) -> Answer:
    """Read a model's words strictly: the first one is yes or no, in any case, or the answer is malformed.

    Example:
        >>> from tokengroups.grounding import parse_answer
        >>> [parse_answer(text).yes for text in ("Yes, it is.", "no", "It is, yes.")]
        [True, False, False]
        >>> [parse_answer(text).malformed for text in ("**Yes**", "It is, yes.", "yes or no")]
        [False, True, True]
    """
    found = _FIRST_WORD.match(text)
    if found is None:
        return Answer(False, None, text, malformed=True)
    return Answer(found[1].lower() == "yes", probability, text)
