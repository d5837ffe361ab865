"""Measuring reconstructed scenes: image quality, instance masks and geometry, with the protocol stated."""
