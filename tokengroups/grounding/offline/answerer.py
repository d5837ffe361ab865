"""The answerer that needs no vision-language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.grounding.answers import Answer, Question
from tokengroups.grounding.offline.facts import SceneFacts
from tokengroups.grounding.offline.parser import NotUnderstood, parse_sentence
from tokengroups.grounding.offline.resolve import EmbedText, Resolver
from tokengroups.grounding.offline.words import DETERMINERS, singular, words_of
from tokengroups.reading import shown
from tokengroups.types import TokenScene


@dataclass(frozen=True)
class Reading:
    """How a sentence was read, and the groups that it means."""

    ids: tuple[int, ...]  # in the order of a rank, else of the scene
    understood: str | None  # None = not taken apart, but compared as a text
    notes: tuple[str, ...]
    probabilities: dict[int, float]  # of the groups that were compared with a text


class OfflineAnswerer:
    """Reads sentences such as "the chair nearest to the window" by a small grammar.

    A noun is a group's name, or the end of it; else it is compared with the groups' embeddings. A sentence that the
    grammar lacks is compared as a whole, and a note says so.

    Args:
        scene: The scene.
        embed: Text encoder of the scene's semantics; None = names only.
    """

    looks = False

    def __init__(self, scene: TokenScene, embed: EmbedText | None = None) -> None:
        self.facts, self.embed = SceneFacts(scene), embed
        self._readings: dict[str, Reading] = {}

    def ask(self, images: Sequence[Float[Tensor, "H W 3"]], question: Question) -> Answer:
        """Answer by what the sentence means in the scene; looks at no pictures."""
        del images
        reading = self.read(question.sentence)
        yes = question.group in reading.ids
        return Answer(yes, reading.probabilities.get(question.group), "yes" if yes else "no")

    def read(self, sentence: str) -> Reading:
        """Find what a sentence means.

        Raises:
            UserError: A noun, or the sentence, is no group's name, and the scene has no semantics.

        Example:
            >>> import tokengroups as tg
            >>> from tokengroups.grounding import OfflineAnswerer
            >>> reading = OfflineAnswerer(tg.example_scene()).read("the blue ball on the floor")
            >>> reading.ids, reading.understood
            ((3,), '[blue ball on [floor]]')
        """
        if sentence not in self._readings:
            self._readings[sentence] = self._read(sentence)
        return self._readings[sentence]

    def _read(self, sentence: str) -> Reading:
        resolver = Resolver(self.facts, self.embed)
        understood = None
        named = self._named(sentence)
        if named:
            columns, understood = named, "a name"
        else:
            try:
                phrase = parse_sentence(sentence)
                columns, understood = resolver.find(phrase), str(phrase)
            except NotUnderstood as error:
                reason = f"cannot take the sentence apart ({shown(error)})"
                try:
                    columns, resolver.probabilities = resolver.similar(sentence)
                except UserError as lacking:
                    raise UserError(f"{reason}; as a whole, {lacking}") from None
                resolver.notes.append(f"{reason}; compared it as a text")
        ids = tuple(self.facts.ids[column] for column in columns)
        probabilities = dict(zip(self.facts.ids, resolver.probabilities, strict=False))
        return Reading(ids, understood, tuple(resolver.notes), probabilities)

    def _named(self, sentence: str) -> list[int]:
        """Groups whose whole name the sentence is, such as one that holds words of the grammar."""
        words = list(words_of(sentence))
        while words and words[0] in DETERMINERS:
            words.pop(0)
        name = (*words[:-1], singular(words[-1])) if words else ()
        return [column for column, each in enumerate(self.facts.names) if each and each == name]
