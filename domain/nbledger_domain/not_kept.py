"""What of a cell's outputs is not kept, and where it would have been."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from nbledger_domain.words import many

if TYPE_CHECKING:
    from nbledger_domain.execution import Output


class NotKept(msgspec.Struct, frozen=True, rename="camel"):
    """Outputs, and bytes, that are not kept. An output that was cut counts only by its bytes."""

    outputs: int
    bytes: int

    def __bool__(self) -> bool:
        return self.outputs > 0 or self.bytes > 0


def after_all(total: NotKept, kept: NotKept, before: Iterable[NotKept | None]) -> NotKept:
    """What is not kept behind the last output that is.

    ``total`` is all that came, ``kept`` what of it is kept, and ``before`` tells what is missing
    in front of each kept output.
    """
    gaps = [gap for gap in before if gap is not None]
    outputs = total.outputs - kept.outputs - sum(gap.outputs for gap in gaps)
    size = total.bytes - kept.bytes - sum(gap.bytes for gap in gaps)
    return NotKept(max(outputs, 0), max(size, 0))


def after_outputs(output_count: int, output_bytes: int, outputs: "Iterable[Output]") -> NotKept:
    """What is not kept behind the last of these outputs of a cell, of which so much came in all."""
    kept = list(outputs)
    size = sum(form.size for output in kept for form in output.representations)
    return after_all(
        NotKept(output_count, output_bytes),
        NotKept(len(kept), size),
        (output.not_kept_before for output in kept),
    )


def in_words(missing: NotKept) -> str:
    """How much that is: ``2 outputs (3,000 bytes)``."""
    size = many(missing.bytes, "byte")
    return f"{many(missing.outputs, 'output')} ({size})" if missing.outputs else size


def note(missing: NotKept) -> dict[str, Any]:
    """An output, as nbformat has it, that says in place of others that they are not kept."""
    what = f"{in_words(missing)} of this cell"
    text = f"[Not shown here: {what}. Beyond the limits on output nothing is kept.]"
    return {
        "output_type": "display_data",
        "data": {"text/plain": text},
        "metadata": {"nbledger": {"notKept": msgspec.to_builtins(missing)}},
    }
