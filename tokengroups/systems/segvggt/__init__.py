"""SegVGGT (Qu et al., ECCV 2026): object queries inside VGGT, whose masks run over all photos of a scene."""
