"""Transparency logs: what is proved to those who do not trust us, in formats of others' standards.

Everything here computes on bytes alone: who keeps tiles, reads events and holds keys is elsewhere.
"""
