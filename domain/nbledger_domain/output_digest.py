"""The digest of what a cell has put out, by which anybody can tell whether all of it is kept.

It is the SHA-256 over one block of UTF-8 text for each output, in order::

    <output type>[ <name of the stream>]
    <SHA-256 of the bytes> <number of bytes> <media type>     one such line for each form
    metadata <SHA-256 of the metadata>                        only where there is metadata

Lines end with a line feed, and so does a block, which makes an empty line. Digests are lower-case
hexadecimal. Metadata is hashed as JSON in UTF-8 without blanks, keys sorted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from nbledger_domain.vocabulary.outputs import TABLE_MEMBER

if TYPE_CHECKING:  # a kernel's supervisor has no use for the aggregate
    from nbledger_domain.execution import Output

DERIVED_METADATA = frozenset({TABLE_MEMBER})
"""What is added to an output's metadata when it is kept; no part of the digest."""


def block(
    output_type: str,
    forms: Iterable[tuple[str, str, int]],
    *,
    stream: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """The block of one output; a form is its media type, digest and size in bytes."""
    lines = [output_type if stream is None else f"{output_type} {stream}"]
    lines += [f"{digest} {size} {content_type}" for content_type, digest, size in forms]
    told = {key: value for key, value in (metadata or {}).items() if key not in DERIVED_METADATA}
    if told:
        encoded = msgspec.json.encode(told, order="deterministic")
        lines.append(f"metadata {hashlib.sha256(encoded).hexdigest()}")
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def outputs_digest(outputs: Iterable[Output]) -> str:
    """The digest of kept outputs, to be compared with the one that was recorded."""
    digest = hashlib.sha256()
    for output in outputs:
        forms = [(form.content_type, form.digest, form.size) for form in output.representations]
        digest.update(
            block(output.output_type, forms, stream=output.stream, metadata=output.metadata)
        )
    return digest.hexdigest()
