"""Transparency logs: what is proved to whom does not trust us, in formats that are others' standards.

Everything here computes on bytes alone: who stores tiles, reads events and holds keys is elsewhere.
"""
