"""Reader of InsScene-15K (IGGT's data set), unpacked: scans, synthetic rooms and video clips with instances.

    processed_scannetpp_v2/SCENE/...        903 scans of ScanNet++: photos, depth, ids
    processed_infinigen/SCENE/SUB/...       1,466 sub-scenes of 156 synthetic houses: the same, with names
    processed_re10k/SCENE/...               5,138 video clips: photos and cameras, no depth, no metric scale
    sam2_results/SCENE/auto_masks.json      their masks, made by SAM 2; also found in processed_re10k/

The modules of the parts, `insscene_parts`, list the files. Scenes are read when they are opened, and nothing stays in
memory. Depth that is not there is 0 = unknown everywhere, so losses of depth, points and cameras leave RE10K out.
Systems that render targets need the true scale, which RE10K does not have: train them on the other ``parts``.

**Leakage**: all 50 scenes of ScanNet++'s benchmark split ``nvs_sem_val`` are among the 903. Put ScanNet++'s lists
``nvs_sem_train.txt`` and ``nvs_sem_val.txt`` into the folder to hold those out; otherwise one room in ten of every part
is held out. Sub-scenes of one Infinigen house count as one room.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tokengroups.data.readers.insscene_files import Shortfall
from tokengroups.data.readers.insscene_parts import PARTS
from tokengroups.data.readers.insscene_scene import InsSceneScene
from tokengroups.data.splits import recorded_splits
from tokengroups.errors import UserError
from tokengroups.io.files import natural_key

_log = logging.getLogger(__name__)
_UNPACK = "join the parts of the split archives and unpack them: cat NAME.zip.* > NAME.zip && unzip NAME.zip"


class InsScene:
    """The scenes of a folder in InsScene-15K's layout.

    Scenes and frames that lack something, or whose parts do not fit together, are left out: counted and named in
    `notes` and in the log, up to a limit.

    Args:
        root: Folder with one or more of the parts, or with the scenes of one.
        parts: Which ones to read: scannetpp, infinigen, re10k.
        skip_limit: Most scenes, and frames of a scene, that may be left out, as a share; rounded up.
        check: Look into every scene now, so that none is refused later; minutes for the whole data set.

    Raises:
        UserError: There is no scene, or more scenes than the limit lack something.
    """

    class_names: ClassVar[tuple[str, ...]] = ()  # Infinigen's names are free words, the other parts have none

    def __init__(
        self,
        root: str | os.PathLike[str],
        parts: Sequence[str] = tuple(PARTS),
        skip_limit: float = 0.1,
        check: bool = False,
    ) -> None:
        self.root, self.parts = Path(root), [parts] if isinstance(parts, str) else list(parts)
        unknown = [name for name in self.parts if name not in PARTS]
        if unknown or not 0 <= skip_limit < 1:
            wrong = f"no part '{unknown[0]}'" if unknown else f"skip_limit {skip_limit} is not in [0, 1)"
            raise UserError(f"data set insscene: {wrong}; the parts are {', '.join(PARTS)}")
        self.skip_limit, self.check = skip_limit, check
        self.notes: list[str] = []
        self.splits: dict[str, tuple[int, ...]] = {}
        self._scenes: list[InsSceneScene] = []
        lacking, sources = Shortfall(str(root), "scenes", _UNPACK), []
        for name in self.parts:
            sources += self._add(name, lacking)
        if not lacking.total:
            raise UserError(f"{root}: no scene of InsScene-15K ({', '.join(self.parts)}) in it; {_UNPACK}")
        self._tell(lacking.settle(skip_limit))
        self.split_source = ", ".join(dict.fromkeys(sources))

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> InsSceneScene:
        scene = self._scenes[index].reopened()
        self._tell(scene.note)
        return scene

    def _add(self, name: str, lacking: Shortfall) -> list[str]:
        """Append one part's complete scenes, in order of their names, and their splits; returns the splits' source."""
        part, complete = PARTS[name], []
        folder, candidates = part.find(self.root)
        for path in sorted(candidates, key=lambda path: natural_key(str(path))):
            scene = part(path, folder, self.skip_limit)
            missing = scene.missing() or (scene.trouble() if self.check else "")
            lacking.count(scene.name, missing)
            if not missing:
                complete.append(scene)
        if not complete:
            return []
        rooms = list(dict.fromkeys(scene.room for scene in complete))
        splits, source = recorded_splits(folder, rooms)
        split_of = {rooms[index]: split for split, indices in splits.items() for index in indices}
        for index, scene in enumerate(complete, start=len(self._scenes)):
            split = split_of.get(scene.room)
            if split is not None:
                self.splits[split] = (*self.splits.get(split, ()), index)
        self._scenes += complete
        return [source]

    def _tell(self, note: str) -> None:
        """Keep and log a note, once."""
        if note and note not in self.notes:
            self.notes.append(note)
            _log.warning(note)
