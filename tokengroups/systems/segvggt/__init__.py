"""SegVGGT: object queries inside the geometry network (Qu et al. 2026)."""
