"""Replies as they are written: ready-made bytes, problems, archives, file names."""
