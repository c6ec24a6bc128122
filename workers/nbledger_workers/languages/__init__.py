"""Kernels of languages other than Python."""
