"""Numbers in the words of messages."""


def counted(value: float, unit: str) -> str:
    """``value`` with its ``unit``: ``1 second``, ``2.5 seconds``, ``1800 seconds``."""
    return f"{value:.10g} {unit}" if value == 1 else f"{value:.10g} {unit}s"
