"""What widgets of outputs show, for reports: a page without scripts shows no widget."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from nbledger_domain.vocabulary.media_types import WIDGET_VIEW

_REFERENCE: Final = "IPY_MODEL_"


class ShownOutputs:
    """The outputs in the widgets of a run, of which `state` is the JSON (None: there are none)."""

    def __init__(self, state: bytes | None) -> None:
        self._models: Mapping[str, Any] = (
            {} if state is None else msgspec.json.decode(state)["state"]
        )

    def after(self, outputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The outputs of a cell, each view of a widget with the outputs that it shows after it."""
        found: list[dict[str, Any]] = []
        for output in outputs:
            found.append(output)
            view = (output.get("data") or {}).get(WIDGET_VIEW)
            if isinstance(view, dict):
                found += self._of(str(view.get("model_id")), set())
        return found

    def _of(self, model_id: str, seen: set[str]) -> list[dict[str, Any]]:
        """The outputs of one widget, and of those within it."""
        state = self._models.get(model_id, {}).get("state", {})
        if model_id in seen:
            return []
        seen.add(model_id)
        shown = [each for each in _listed(state.get("outputs")) if isinstance(each, dict)]
        for child in _listed(state.get("children")):
            if isinstance(child, str) and child.startswith(_REFERENCE):
                shown += self._of(child.removeprefix(_REFERENCE), seen)
        return shown


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
