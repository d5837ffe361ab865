"""Geometry encoders: photos to cameras, depth, points and features."""
