"""A small relative of VGGT that trains on a CPU."""
