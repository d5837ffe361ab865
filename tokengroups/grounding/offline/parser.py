"""A small grammar for sentences about things in a room.

phrase = [determiner] [number] [ordinal] [superlative] ["of"] [determiner] noun [tail]
tail = relation phrase | "to" or "from" phrase, after "nearest" and the like | "from the left"
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tokengroups.grounding.offline.words import (
    COLORS,
    DETERMINERS,
    FILLERS,
    GENERIC,
    MARKERS,
    NUMBERS,
    OPENINGS,
    PLACES,
    POSITIVES,
    RELATIONS,
    SIDES,
    SUPERLATIVES,
    UNSUPPORTED,
    Measure,
    Relation,
    ordinal,
    singular,
    words_of,
)


class NotUnderstood(Exception):
    """The sentence does not follow the grammar; the message says which word is in the way."""


@dataclass(frozen=True)
class Rank:
    """Order of things, and which of them are meant."""

    word: str  # superlative; "" = not read yet
    first: int = 1  # place of the first one that is meant
    count: int = 1
    positive: str = ""  # the word itself, such as "big", where a positive stands for the superlative
    reference: Phrase | None = None  # of "nearest" and the like; None = the camera

    @property
    def measure(self) -> Measure:
        """What orders them."""
        return SUPERLATIVES[self.word][0]

    @property
    def descending(self) -> bool:
        """Whether the largest value comes first."""
        return SUPERLATIVES[self.word][1]


@dataclass(frozen=True)
class Phrase:
    """Things that a sentence, or a part of it, describes."""

    noun: tuple[str, ...]  # words with adjectives; none = anything
    one: bool = False  # "the chair", of which there should be one
    plural: bool = False
    rank: Rank | None = None
    relation: Relation | None = None
    reference: Phrase | None = None  # of the relation

    def __str__(self) -> str:
        """As it was read, for the user."""
        text = f"[{' '.join(self.noun) or 'anything'}"
        if self.relation is not None:
            text += f" {self.relation} {self.reference}"
        if self.rank is not None:
            places = f" {self.rank.first}" if self.rank.first > 1 else ""
            places += f", {self.rank.count} of them" if self.rank.count > 1 else ""
            text += f"; {self.rank.word}{places}"
            if self.rank.measure == "distance":
                text += f" {'from' if self.rank.descending else 'to'} {self.rank.reference or 'the camera'}"
        return text + "]"


def parse_sentence(sentence: str) -> Phrase:
    """Take a sentence apart.

    Raises:
        NotUnderstood: It holds what the grammar lacks, such as negations.

    Example:
        >>> from tokengroups.grounding.offline.parser import parse_sentence
        >>> print(parse_sentence("Which is the second smallest chair next to the red table?"))
        [chair next to [red table]; smallest 2]
        >>> print(parse_sentence("everything on the desk nearest to the window"))
        [anything on [desk; nearest to [window]]]
    """
    words = list(words_of(sentence))
    while words and words[0] in OPENINGS | FILLERS:
        words.pop(0)
    phrase = _Words([word for word in words if word not in FILLERS]).phrase()
    if not (phrase.noun or phrase.rank or phrase.relation) and not set(words) & (GENERIC | {"all"}):
        raise NotUnderstood("it names nothing")
    return phrase


class _Words:
    """The words that are not read yet."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def phrase(self) -> Phrase:
        """Read a phrase and all that belongs to it, to the end."""
        length = len(self.words)
        definite, rank = self._determiner(), self._rank()
        if self.words[:1] == ["of"] and len(self.words) < length:  # "all of the", "the largest of the"
            self.words.pop(0)
            self._determiner()
            definite = False
        noun, plural = self._noun(rank)
        phrase = Phrase(noun, one=definite and not plural, plural=plural)
        return self._tail(phrase, rank)

    def _determiner(self) -> bool:
        """Pass determiners; tells whether the last one is definite."""
        last = ""
        while self.words and self.words[0] in DETERMINERS:
            last = self.words.pop(0)
        return last in ("the", "this", "my", "our")

    def _rank(self) -> Rank | None:
        """Read "two largest", "second nearest" and the like; a mere ordinal needs a side, "second from the left"."""
        rank, began = Rank(""), False
        while self.words and not self._at_marker():
            here = self.words[0]
            place = ordinal(here)
            if place is not None and not rank.word:
                rank = replace(rank, first=place)
            elif here in NUMBERS:
                rank = replace(rank, count=NUMBERS[here])
            elif here in SUPERLATIVES and not rank.word:
                rank = replace(rank, word=here)
            elif here in POSITIVES and not rank.word:
                rank = replace(rank, word=POSITIVES[here], positive=here)
            else:
                break
            self.words.pop(0)
            began = True
        if rank.first < 1:
            raise NotUnderstood("counting begins at 1")
        return rank if began else None

    def _noun(self, rank: Rank | None) -> tuple[tuple[str, ...], bool]:
        """Read up to a relation; returns the words, the last one in the singular, and whether it was a plural."""
        noun: list[str] = []
        while self.words and not self._at_marker() and not (noun and self.words[0] in SUPERLATIVES):
            word = self.words[0]
            if word in ("to", "from") and _is_distance(rank):
                break
            if word in UNSUPPORTED or word in DETERMINERS or (word in SUPERLATIVES and rank is not None):
                raise NotUnderstood(f"the word '{word}'")
            if word in SUPERLATIVES:
                break
            noun.append(self.words.pop(0))
        if not noun:
            return (), False
        if singular(noun[0]) in GENERIC and COLORS.issuperset(noun[1:]):  # "something blue"
            noun.append(noun.pop(0))
        last = singular(noun[-1])
        plural = last != noun[-1]
        noun[-1] = last
        return (tuple(noun[:-1]) if last in GENERIC else tuple(noun)), plural

    def _tail(self, phrase: Phrase, rank: Rank | None) -> Phrase:
        """Read what follows the noun."""
        if self.words and self.words[0] in SUPERLATIVES:  # "the chair nearest to the window"
            if rank is not None and rank.word:
                raise NotUnderstood(f"the word '{self.words[0]}' after '{rank.word}'")
            rank = replace(rank or Rank(""), word=self.words.pop(0))
            if rank.measure == "distance" and self.words[:1] not in ([], ["to"], ["from"]):
                self.words.insert(0, "to")  # "nearest the window"
        elif marker := self._at_marker():
            self.words = self.words[len(marker) :]
            return self._related(phrase, rank, " ".join(marker))
        if rank is not None and _is_distance(rank) and self.words[:1] in (["to"], ["from"]):
            self.words.pop(0)
            rank = replace(rank, reference=self.phrase())
        if self.words:
            raise NotUnderstood(f"the word '{self.words[0]}'")
        return _ranked(phrase, rank)

    def _related(self, phrase: Phrase, rank: Rank | None, marker: str) -> Phrase:
        if marker in SIDES:
            if self.words or (rank is not None and rank.word):
                raise NotUnderstood(f"the words '{marker}' here")
            return _ranked(phrase, replace(rank or Rank(""), word=SIDES[marker]))
        if not self.words:
            raise NotUnderstood(f"nothing after '{marker}'")
        relation, reference = RELATIONS[marker], self.phrase()
        if relation == "inside" and reference.noun and reference.noun[-1] in PLACES and reference.rank is None:
            return _ranked(phrase, rank)
        return _ranked(replace(phrase, relation=relation, reference=reference), rank)

    def _at_marker(self) -> tuple[str, ...] | None:
        """The longest relation that begins here."""
        return next((marker for marker in MARKERS if tuple(self.words[: len(marker)]) == marker), None)


def _is_distance(rank: Rank | None) -> bool:
    return rank is not None and rank.word != "" and rank.measure == "distance"


def _ranked(phrase: Phrase, rank: Rank | None) -> Phrase:
    if rank is not None and not rank.word:
        raise NotUnderstood("a number without what is counted by, such as 'largest' or 'from the left'")
    return replace(phrase, rank=rank)
