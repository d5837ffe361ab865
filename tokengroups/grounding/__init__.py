"""Grounding: which groups of a scene does a sentence mean?

Each group is shown in its best views, marked, with a yes/no question; the groups with the answer yes are the result.
Who answers is one of three `Answerer`s: names, sizes and relations of the groups (`offline`), a local vision-language
model, or an OpenAI-compatible endpoint.
"""

from tokengroups.grounding.answers import Answer, Answerer, Question, parse_answer
from tokengroups.grounding.ground import COMBINATIONS, Grounding, GroupAnswer, ground
from tokengroups.grounding.offline import OfflineAnswerer
from tokengroups.grounding.pictures import ScenePictures, draw_mask

__all__ = [
    "COMBINATIONS",
    "Answer",
    "Answerer",
    "GroupAnswer",
    "Grounding",
    "OfflineAnswerer",
    "Question",
    "ScenePictures",
    "draw_mask",
    "ground",
    "parse_answer",
]
