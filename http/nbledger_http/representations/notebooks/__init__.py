"""Notebooks as they are answered: after a change, as files, with their outputs."""
