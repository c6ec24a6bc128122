"""Moments of the past: how they are named, and what may be wrong with one."""
