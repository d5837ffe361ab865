"""Readers of recorded data sets."""
