"""Stored outputs, put back into the form in which nbformat has them."""

import base64
from typing import Any

import msgspec

from nbledger_domain import not_kept
from nbledger_domain.cells import Cell
from nbledger_domain.execution import Output, Representation
from nbledger_domain.not_kept import NotKept
from nbledger_domain.vocabulary import media_types
from nbledger_domain.vocabulary.outputs import TABLE_MEMBER, TEXT_OUTPUTS
from nbledger_domain.words import many
from nbledger_infrastructure.artifacts.store import ArtifactMissingError, ArtifactStore, Scope
from nbledger_projections.read_models.executions.result_folding import CellOutputs

MAX_DEPTH = 100
"""JSON that is nested deeper stays text: what writes notebook files follows it by recursion."""


async def uploaded_outputs(
    artifacts: ArtifactStore, scope: Scope, cells: list[Cell]
) -> dict[str, list[Any]]:
    """The outputs that cells were uploaded with, by cell id."""
    found: dict[str, list[Any]] = {}
    for cell in cells:
        if cell.outputs is not None:
            content = await artifacts.get(scope, cell.outputs.digest)
            found[cell.cell_id] = msgspec.json.decode(content)
    return found


async def executed_outputs(
    artifacts: ArtifactStore, scope: Scope, cells: list[CellOutputs]
) -> dict[str, list[Any]]:
    """What an execution has put out, by cell id."""
    return {cell.cell_id: await _executed(artifacts, scope, cell) for cell in cells}


async def _executed(
    artifacts: ArtifactStore, scope: Scope, cell: CellOutputs
) -> list[dict[str, Any]]:
    """The outputs of a cell, with a note wherever some of them are not kept."""
    made: list[dict[str, Any]] = []
    for output in cell.outputs:
        if output.not_kept_before:
            made.append(not_kept.note(output.not_kept_before))
        made.append(await _output(artifacts, scope, output, cell.execution_count))
    if rest := missing_at_end(cell):
        # An error is kept whatever was before.
        at = len(made) - 1 if made and made[-1]["output_type"] == "error" else len(made)
        made.insert(at, not_kept.note(rest))
    return made


def missing_at_end(cell: CellOutputs) -> NotKept | None:
    """What a cell has put out behind its last kept output; ``None`` where all of it is kept."""
    if not cell.truncated:
        return None
    return not_kept.after_outputs(cell.output_count, cell.output_bytes, cell.outputs) or None


def missing(cell: CellOutputs) -> NotKept | None:
    """What of a cell's outputs is not kept in all."""
    gaps = [output.not_kept_before for output in cell.outputs] + [missing_at_end(cell)]
    told = [gap for gap in gaps if gap]
    if not told:
        return None
    return NotKept(sum(gap.outputs for gap in told), sum(gap.bytes for gap in told))


async def widgets(
    artifacts: ArtifactStore, scope: Scope, content: Representation | None
) -> dict[str, Any] | None:
    """The member ``widgets`` of an executed notebook's metadata; ``None`` where it has none."""
    if content is None:
        return None
    try:
        state = _content(content, await artifacts.get(scope, content.digest))
    except ArtifactMissingError:
        return None
    return {content.content_type: state} if isinstance(state, dict) else None


async def _output(
    artifacts: ArtifactStore, scope: Scope, output: Output, execution_count: int | None
) -> dict[str, Any]:
    kind = output.output_type
    forms: dict[str, Any] = {}
    lost: list[Representation] = []
    for form in output.representations:
        try:
            forms[form.content_type] = _content(form, await artifacts.get(scope, form.digest))
        except ArtifactMissingError:
            # The rest of the notebook is still worth having.
            lost.append(form)
    if lost and (not forms or kind in TEXT_OUTPUTS):
        size = sum(form.size for form in lost)
        return _gone(f"[An output of {many(size, 'byte')} is not there any more.]")
    if kind == "stream":
        return {
            "output_type": kind,
            "name": output.stream or "stdout",
            "text": forms.get("text/plain", ""),
        }
    if kind == "error":
        told = forms.get(media_types.ERROR)
        told = told if isinstance(told, dict) else {}
        return {
            "output_type": kind,
            "ename": str(told.get("ename") or "Error"),
            "evalue": str(told.get("evalue") or ""),
            "traceback": [str(line) for line in told.get("traceback") or []],
        }
    metadata = {name: value for name, value in output.metadata.items() if name != TABLE_MEMBER}
    result: dict[str, Any] = {"output_type": kind, "data": forms, "metadata": metadata}
    if kind == "execute_result":
        result["execution_count"] = execution_count
    return result


def _gone(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}


def _content(form: Representation, content: bytes) -> Any:
    if media_types.is_binary(form.content_type):
        return base64.b64encode(content).decode()
    text = content.decode("utf-8", "replace")
    if media_types.is_json(form.content_type) or form.content_type == media_types.ERROR:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
        return text if _too_deep(value) else value
    return text


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True
