"""IGGT (Li et al., ICLR 2026): an instance field beside VGGT's geometry, and instances from it by clustering."""
