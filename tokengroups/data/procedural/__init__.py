"""Procedural furnished rooms."""
