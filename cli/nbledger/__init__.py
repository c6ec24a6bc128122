"""The command line of nbledger, and the composition root: here the parts become processes."""

from importlib.metadata import version

__version__ = version("nbledger")
