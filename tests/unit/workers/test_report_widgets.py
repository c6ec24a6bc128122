"""What widgets of outputs show, in reports."""

from __future__ import annotations

import json
from typing import Any

from nbledger_workers.reports.widgets import ShownOutputs

TEXT = {"output_type": "stream", "name": "stdout", "text": "x 3\n"}


def view(model_id: str) -> dict[str, Any]:
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": model_id}}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def test_outputs_in_widgets_follow_the_views_of_these() -> None:
    states = {
        "box": {"children": ["IPY_MODEL_slider", "IPY_MODEL_output", "IPY_MODEL_box", 3]},
        "slider": {"value": 3},
        "output": {"outputs": [TEXT, "no output"]},
    }
    state = {"state": {name: {"state": inner} for name, inner in states.items()}}
    shown = ShownOutputs(json.dumps(state).encode())
    plain = {"output_type": "stream", "name": "stdout", "text": "of the cell\n"}
    outputs = [plain, view("box"), view("slider"), view("gone"), view("output")]
    assert shown.after(outputs) == [*outputs[:2], TEXT, *outputs[2:], TEXT]
    assert ShownOutputs(None).after(outputs) == outputs
