"""The state of widgets, as a front end would have it, for the notebook that was run.

Widgets tell their state in messages of comms. It is kept in the form that notebooks have for it
(`application/vnd.jupyter.widget-state+json`), so that whoever opens the notebook sees them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nbledger_domain.vocabulary.outputs import OUTPUT_TYPES
from nbledger_workers.kernel.outputs.budget import Budget
from nbledger_workers.kernel.outputs.captured import CapturedOutputs
from nbledger_workers.kernel.outputs.encoding import to_json

_OUTPUT_MODEL: Final = ("@jupyter-widgets/output", "OutputModel")


class WidgetStates:
    """The widgets of one run: at most `max_bytes` of them, within the `budget` of its outputs.

    What is more makes all of it go, as widgets refer to each other, and `dropped` says so.
    """

    def __init__(self, max_bytes: int, budget: Budget) -> None:
        self.dropped = False
        self._max = max_bytes
        self._budget = budget
        self._total = 0
        self._sizes: dict[tuple[str, ...], int] = {}
        self._states: dict[str, dict[str, Any]] = {}
        self._buffers: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {}
        # Output widgets that take what is put out for a request, the last one first to be asked.
        self._capturing: dict[str, list[str]] = {}
        # What they have taken since their state was told.
        self._captured: dict[str, CapturedOutputs] = {}
        self._clear_next: set[str] = set()

    def take(self, message: Mapping[str, Any]) -> None:
        """Take a message of a comm; what is none of a widget's state is ignored."""
        content = message["content"]
        comm_id, data = content.get("comm_id"), content.get("data")
        if message["msg_type"] == "comm_close":
            # What it has shown stays; what is put out from now on is the cell's.
            if isinstance(comm_id, str):
                self._end_capture(comm_id)
            return
        if self.dropped or not isinstance(comm_id, str) or not isinstance(data, dict):
            return
        state = data.get("state")
        if not isinstance(state, dict):
            return
        held = self._states.setdefault(comm_id, {})
        buffers = self._buffers.setdefault(comm_id, {})
        for key, value in state.items():
            held[key] = value
            if key == "outputs":
                self._captured.pop(comm_id, None)
            self._spend((comm_id, key), len(to_json(value)))
            for path in [path for path in buffers if path[0] == key]:
                del buffers[path]
                self._spend((comm_id, "", *path), 0)
        self._take_buffers(comm_id, data.get("buffer_paths"), message.get("buffers") or [])
        if "msg_id" in state and message["msg_type"] == "comm_msg":
            self._capture_for(comm_id, held, state["msg_id"])

    def _take_buffers(self, comm_id: str, paths: Any, buffers: Sequence[bytes]) -> None:
        # Nothing is kept any more where the states were too many just now.
        held = self._buffers.get(comm_id, {})
        for path, buffer in zip(paths if isinstance(paths, list) else [], buffers, strict=False):
            if isinstance(path, list) and path:
                encoded = base64.b64encode(buffer).decode()
                place = tuple(map(str, path))
                held[place] = {"data": encoded, "encoding": "base64", "path": path}
                self._spend((comm_id, "", *place), len(encoded))

    def captures(self, message: Mapping[str, Any]) -> bool:
        """Take an output that is put out into a widget; False where it is the cell's."""
        comms = self._capturing.get(message["parent_header"].get("msg_id", ""))
        kind, content = message["msg_type"], message["content"]
        if not comms or self.dropped:
            return False
        comm_id = comms[-1]
        if kind == "clear_output":
            if content.get("wait"):
                self._clear_next.add(comm_id)
            else:
                self._clear(comm_id)
            return True
        if kind not in OUTPUT_TYPES:
            return False
        if comm_id in self._clear_next:
            self._clear_next.discard(comm_id)
            self._clear(comm_id)
        captured = self._captured.get(comm_id)
        if captured is None:
            outputs = self._states[comm_id].get("outputs")
            captured = CapturedOutputs(outputs if isinstance(outputs, list) else ())
            self._captured[comm_id] = captured
        place = (comm_id, "outputs")
        self._spend(place, self._sizes.get(place, 0) + captured.add(kind, content))
        return True

    def encoded(self) -> bytes | None:
        """The JSON of a notebook's metadata for this media type; None where there is no widget."""
        models = {}
        for comm_id, captured in self._captured.items():
            self._states[comm_id]["outputs"] = captured.outputs
        for comm_id, state in self._states.items():
            if "_model_name" not in state:
                continue
            model = models[comm_id] = {
                "model_name": state.get("_model_name"),
                "model_module": state.get("_model_module"),
                "model_module_version": state.get("_model_module_version"),
                "state": state,
            }
            if self._buffers.get(comm_id):
                model["buffers"] = list(self._buffers[comm_id].values())
        if not models:
            return None
        return to_json({"state": models, "version_major": 2, "version_minor": 0})

    def _capture_for(self, comm_id: str, held: Mapping[str, Any], request: Any) -> None:
        """Begin to take what is put out for a request, or end it where there is none."""
        if (held.get("_model_module"), held.get("_model_name")) != _OUTPUT_MODEL:
            return
        self._end_capture(comm_id)
        if isinstance(request, str) and request:
            self._capturing.setdefault(request, []).append(comm_id)

    def _end_capture(self, comm_id: str) -> None:
        for comms in self._capturing.values():
            if comm_id in comms:
                comms.remove(comm_id)

    def _clear(self, comm_id: str) -> None:
        self._captured[comm_id] = CapturedOutputs()
        self._spend((comm_id, "outputs"), 0)

    def _spend(self, what: tuple[str, ...], size: int) -> None:
        if self.dropped:
            return
        growth = size - self._sizes.get(what, 0)
        self._sizes[what] = size
        self._total += growth
        self._budget.left -= growth
        if self._total > self._max or self._budget.left < 0:
            self.dropped = True
            self._budget.left += self._total
            for each in (self._sizes, self._states, self._buffers, self._capturing, self._captured):
                each.clear()
