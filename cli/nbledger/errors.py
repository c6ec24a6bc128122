"""Errors of the command line that are told in one line."""


class DemoFailedError(Exception):
    """The demonstration did not get to its end; the message says why."""
