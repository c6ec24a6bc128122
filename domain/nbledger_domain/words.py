"""Numbers in the words of messages."""


def many(count: int, unit: str) -> str:
    """``count`` with its ``unit``: ``1 byte``, ``2,500 bytes``."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def counted(value: float, unit: str) -> str:
    """``value`` with its ``unit``: ``1 second``, ``2.5 seconds``, ``1800 seconds``."""
    return f"{value:.10g} {unit}" if value == 1 else f"{value:.10g} {unit}s"
