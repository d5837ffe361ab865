"""From a phrase to the groups that it means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.grounding.offline.facts import SceneFacts
from tokengroups.grounding.offline.parser import Phrase, Rank
from tokengroups.grounding.offline.relations import related_columns
from tokengroups.grounding.offline.words import COLORS
from tokengroups.reading import shown
from tokengroups.retrieval import MATCH_PROBABILITY, match_probabilities, text_cosines
from tokengroups.ties import ascending

EmbedText = Callable[[str], Float[Tensor, " D"]]  # in the space of the scene's semantics
_LISTED = 5
_ODDS = 20.0  # largest ratio of the best group's odds to those of another one that is found with it
_ALMOST = 0.05  # of the larger value: measures that differ by less than this share are nearly equal
_ROUNDING = 1e-6


class Resolver:
    """Finds the groups of phrases.

    Attributes:
        notes: What the user should know about the result, in order.
        probabilities: That the noun of the phrase applies to each group, by column; none where it is a name.
    """

    def __init__(self, facts: SceneFacts, embed: EmbedText | None) -> None:
        self.facts, self.embed = facts, embed
        self.notes: list[str] = []
        self.probabilities: list[float] = []

    def find(self, phrase: Phrase) -> list[int]:
        """Columns of the groups that a phrase means, the first of a rank first.

        Raises:
            UserError: A noun is no group's name, and the scene has no semantics.
        """
        said = (phrase.rank.positive, *phrase.noun) if phrase.rank is not None and phrase.rank.positive else None
        if said is not None and said in self.facts.names:  # a group named "big box"
            phrase = Phrase(said, phrase.one, phrase.plural, None, phrase.relation, phrase.reference)
        found, probabilities = self._nouns(phrase.noun)
        if phrase.relation is not None and phrase.reference is not None:
            others = self._references(phrase.reference)
            related = set().union(*(related_columns(self.facts, phrase.relation, other) for other in others))
            found = [column for column in found if column in related]
        if phrase.rank is not None:
            found = self._ranked(found, phrase.rank, phrase.plural)
        if phrase.one and len(found) > 1:
            self._note(f"'the {_words(phrase.noun)}' fits several groups: {self._listed(found)}")
        self.probabilities = probabilities  # of the outermost phrase, which is complete last
        return found

    def similar(self, text: str) -> tuple[list[int], list[float]]:
        """Columns of the groups that a text applies to, best first, and its probabilities by column.

        Their probability is at least `MATCH_PROBABILITY`, and their odds are not far below those of the best: to a text
        encoder, a sofa is rather a chair as well.

        Raises:
            UserError: The scene has no semantics.
        """
        semantics = self.facts.scene.semantics
        if semantics is None or self.embed is None:
            lacking = "the scene has no semantics" if semantics is None else "there is no text encoder"
            cure = "add embeddings with `tokengroups embed`, or ask for colours, sizes and places of things"
            raise UserError(f"{self._nameless(text)}, and {lacking} to compare a text with; {cure}")
        cosines = text_cosines(semantics, self.embed(text)[None])
        values = match_probabilities(semantics, cosines)[0].double()
        order = ascending(-values.numpy(force=True), _ROUNDING).tolist()
        probabilities: list[float] = values.tolist()
        behind = semantics.calibration[0] * (cosines[0].max() - cosines[0])  # logarithm of the ratio of odds
        good = (values >= MATCH_PROBABILITY) & (behind <= math.log(_ODDS))
        found = [column for column in order if bool(good[column])]
        if not found:
            near = ", ".join(f"{self.facts.ids[c]} ({probabilities[c]:.2f})" for c in order[:_LISTED])
            self._note(f"no group matches '{shown(text)}'; the nearest are {near}")
        return found, probabilities

    def _nouns(self, noun: Sequence[str]) -> tuple[list[int], list[float]]:
        """Groups with a name that ends in the noun, less adjectives of colour that its name lacks; else `similar`."""
        names, size = self.facts.names, len(self.facts.ids)
        colors = 0
        while colors < len(noun) and noun[colors] in COLORS:
            colors += 1
        for skipped in range(colors + 1):
            rest = tuple(noun[skipped:])
            found = [c for c in range(size) if rest and names[c][-len(rest) :] == rest]
            if found:
                return self._colored(found, noun[:skipped]), []
        rest = noun[colors:]
        if not rest:  # anything; walls and floors are named if they are meant
            return self._colored([c for c in range(size) if not self.facts.structure[c]], noun), []
        found, probabilities = self.similar(_words(rest))
        if found:
            self._note(f"'{shown(_words(rest))}' is no group's name; found by text similarity: {self._listed(found)}")
        return self._colored(found, noun[:colors]), probabilities

    def _colored(self, found: list[int], colors: Sequence[str]) -> list[int]:
        return [column for column in found if set(colors) <= self.facts.colors[column]]

    def _references(self, phrase: Phrase) -> list[int]:
        """Groups that others are compared with."""
        found = self.find(phrase)
        if not found:
            self._note(f"nothing in the scene is '{_words(phrase.noun)}' as it is described")
        return found

    def _ranked(self, found: list[int], rank: Rank, plural: bool) -> list[int]:
        """The groups at the places that a rank names."""
        if not found:
            return []
        values = self.facts.measure(rank.measure)
        if rank.reference is not None:
            others = self._references(rank.reference)
            if not others:
                return []
            found = [column for column in found if column not in others] if set(found) != set(others) else found
            away = torch.stack([self.facts.distances(other) for other in others])
            away[torch.arange(len(others)), others] = torch.inf  # of the others among themselves
            values = away.amin(dim=0)
        mine = values[found]
        order = ascending((-mine if rank.descending else mine).numpy(), _ROUNDING * max(float(mine.abs().max()), 1e-9))
        ordered = [found[place] for place in order.tolist()]
        self._remark(ordered, values, rank, plural)
        return ordered[rank.first - 1 : rank.first - 1 + rank.count]

    def _remark(self, ordered: list[int], values: Tensor, rank: Rank, plural: bool) -> None:
        """Note what makes a rank doubtful."""
        last = rank.first + rank.count - 1
        if len(ordered) < last:
            self._note(f"there are only {len(ordered)} to choose from: {self._listed(ordered)}")
        if rank.positive:
            self._note(f"'{rank.positive}' is read as '{rank.word}'")
        elif plural and rank.count == 1:
            self._note(f"'{rank.word}' is read as one group; write 'the two {rank.word} ...' for more")
        for before in {rank.first - 1, last} - {0}:
            if before < len(ordered):
                one, other = (float(values[ordered[place]]) for place in (before - 1, before))
                if abs(one - other) <= _ALMOST * max(abs(one), abs(other)):
                    ids = self._listed(ordered[before - 1 : before + 1])
                    self._note(f"by '{rank.word}', the groups {ids} are almost equal")

    def _nameless(self, text: str) -> str:
        titles = sorted({" ".join(name) for name in self.facts.names if name})
        has = f"the scene has {', '.join(titles)}" if titles else "its groups have no names"
        return shown(f"no group is named '{text}' ({has})")

    def _listed(self, columns: Sequence[int]) -> str:
        some = ", ".join(str(self.facts.ids[column]) for column in columns[:_LISTED])
        return some + (", ..." if len(columns) > _LISTED else "")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _words(noun: Sequence[str]) -> str:
    return " ".join([*noun, "thing"] if not noun or noun[-1] in COLORS else noun)
