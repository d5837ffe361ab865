"""Synonyms and descriptions of object classes of indoor scenes: queries that are unseen in training.

Training sees class names alone, so no phrase contains a class name as a word. An instance of any class that a phrase
describes is a right answer.
"""

from __future__ import annotations

from tokengroups.evaluation.masks import STRUCTURE_CLASSES

# Phrases by the classes that they describe, with commas between.
_PHRASES_OF = {
    "door": ["entrance", "something to walk through into the next room"],
    "window": ["a pane of glass to look outside", "where daylight comes in"],
    "picture": ["painting", "framed artwork"],
    "chair, stool, armchair, sofa, bench": ["something to sit on"],
    "chair, armchair": ["a seat with a backrest for one person"],
    "chair": ["dining seat"],
    "stool": ["a seat without a backrest for one person", "bar seat"],
    "armchair": ["recliner"],
    "sofa": ["couch", "settee"],
    "bench": ["pew", "a long seat without a backrest for several people"],
    "bed": ["somewhere to sleep", "mattress"],
    "table": ["where a family eats dinner", "dining surface"],
    "coffee table": ["a low surface for mugs and magazines", "low furniture in front of the couch"],
    "desk": ["workstation", "a place to study and write"],
    "nightstand": ["bedside drawer", "small furniture next to where one sleeps"],
    "dresser": ["chest of drawers"],
    "dresser, wardrobe": ["where folded clothes are stored"],
    "tv stand": ["media console", "furniture under the television"],
    "wardrobe": ["closet", "where coats and dresses hang"],
    "cabinet": ["cupboard", "sideboard"],
    "bookshelf": ["bookcase", "where novels are kept"],
    "refrigerator": ["fridge", "where food is kept cold"],
    "washing machine": ["laundry appliance", "where dirty clothes get clean"],
    "floor lamp": ["a tall standing light"],
    "floor lamp, table lamp": ["something that gives light"],
    "table lamp": ["a small reading light"],
    "plant, potted plant": ["greenery", "something that needs watering"],
    "bin": ["trash can", "where rubbish is thrown away"],
    "suitcase": ["luggage", "what one packs for a holiday"],
    "box": ["carton", "a cardboard package"],
    "basket": ["hamper", "woven container"],
    "rug": ["carpet", "a mat under the feet"],
    "cup": ["mug", "what tea is drunk from"],
    "bottle": ["flask", "a glass container for wine"],
    "vase": ["a holder for cut flowers", "urn"],
    "bowl": ["soup dish", "a round dish for cereal"],
    "books": ["novels", "something to read"],
    "monitor": ["computer screen", "display"],
    "laptop": ["notebook computer", "a portable computer"],
    "ball": ["something round to kick and throw"],
    "ball, teddy bear": ["a toy"],
    "pillow": ["cushion", "something soft to rest the head on"],
    "teddy bear": ["stuffed animal"],
    "speaker": ["loudspeaker", "what music comes out of"],
    "clock": ["timepiece", "something that tells the time"],
}
PHRASES: dict[str, tuple[str, ...]] = {
    phrase: tuple(classes.split(", ")) for classes, phrases in _PHRASES_OF.items() for phrase in phrases
}

# Classes of which all fitting phrases are listed; none fits walls, floors and ceilings.
PHRASED_CLASSES = frozenset(STRUCTURE_CLASSES).union(*PHRASES.values())
