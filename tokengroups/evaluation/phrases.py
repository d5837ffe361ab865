"""Synonyms and descriptions of object classes of indoor scenes: queries that no training has seen.

Training sees class names alone, so no phrase holds a class name as a word. A phrase that describes several classes is
answered by an instance of any of them.
"""

from __future__ import annotations

from tokengroups.evaluation.masks import STRUCTURE_CLASSES

LAMPS = ("floor lamp", "table lamp")
PLANTS = ("plant", "potted plant")
SEATS = ("chair", "stool", "armchair", "sofa", "bench")

PHRASES: dict[str, tuple[str, ...]] = {
    "entrance": ("door",),
    "something to walk through into the next room": ("door",),
    "a pane of glass to look outside": ("window",),
    "where daylight comes in": ("window",),
    "painting": ("picture",),
    "framed artwork": ("picture",),
    "something to sit on": SEATS,
    "a seat with a backrest for one person": ("chair", "armchair"),
    "dining seat": ("chair",),
    "a seat without a backrest for one person": ("stool",),
    "bar seat": ("stool",),
    "recliner": ("armchair",),
    "couch": ("sofa",),
    "settee": ("sofa",),
    "pew": ("bench",),
    "a long seat without a backrest for several people": ("bench",),
    "somewhere to sleep": ("bed",),
    "mattress": ("bed",),
    "where a family eats dinner": ("table",),
    "dining surface": ("table",),
    "a low surface for mugs and magazines": ("coffee table",),
    "low furniture in front of the couch": ("coffee table",),
    "workstation": ("desk",),
    "a place to study and write": ("desk",),
    "bedside drawer": ("nightstand",),
    "small furniture next to where one sleeps": ("nightstand",),
    "chest of drawers": ("dresser",),
    "where folded clothes are stored": ("dresser", "wardrobe"),
    "media console": ("tv stand",),
    "furniture under the television": ("tv stand",),
    "closet": ("wardrobe",),
    "where coats and dresses hang": ("wardrobe",),
    "cupboard": ("cabinet",),
    "sideboard": ("cabinet",),
    "bookcase": ("bookshelf",),
    "where novels are kept": ("bookshelf",),
    "fridge": ("refrigerator",),
    "where food is kept cold": ("refrigerator",),
    "laundry appliance": ("washing machine",),
    "where dirty clothes get clean": ("washing machine",),
    "a tall standing light": ("floor lamp",),
    "something that gives light": LAMPS,
    "a small reading light": ("table lamp",),
    "greenery": PLANTS,
    "something that needs watering": PLANTS,
    "trash can": ("bin",),
    "where rubbish is thrown away": ("bin",),
    "luggage": ("suitcase",),
    "what one packs for a holiday": ("suitcase",),
    "carton": ("box",),
    "a cardboard package": ("box",),
    "hamper": ("basket",),
    "woven container": ("basket",),
    "carpet": ("rug",),
    "a mat under the feet": ("rug",),
    "mug": ("cup",),
    "what tea is drunk from": ("cup",),
    "flask": ("bottle",),
    "a glass container for wine": ("bottle",),
    "a holder for cut flowers": ("vase",),
    "urn": ("vase",),
    "soup dish": ("bowl",),
    "a round dish for cereal": ("bowl",),
    "novels": ("books",),
    "something to read": ("books",),
    "computer screen": ("monitor",),
    "display": ("monitor",),
    "notebook computer": ("laptop",),
    "a portable computer": ("laptop",),
    "something round to kick and throw": ("ball",),
    "a toy": ("ball", "teddy bear"),
    "cushion": ("pillow",),
    "something soft to rest the head on": ("pillow",),
    "stuffed animal": ("teddy bear",),
    "loudspeaker": ("speaker",),
    "what music comes out of": ("speaker",),
    "timepiece": ("clock",),
    "something that tells the time": ("clock",),
}

# Classes of which all fitting phrases are listed: walls, floors and ceilings fit none.
PHRASED_CLASSES = frozenset(STRUCTURE_CLASSES).union(*PHRASES.values())
