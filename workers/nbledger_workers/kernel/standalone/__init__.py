"""Modules that run under any Python interpreter, by their paths and without this package.

They need the standard library only, and find each other by `beside`.
"""
