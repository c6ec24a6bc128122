"""Notebook files: read, repaired, upgraded, bundled."""
