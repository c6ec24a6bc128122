"""Units of sizes."""

MB = 1_000_000
"""Bytes of a megabyte in settings that bound what a run and its environment use."""

MIB = 1024 * 1024
"""Bytes of a megabyte in settings that bound what a request carries."""
