"""Token groups with additions for the tiny encoder."""
