"""The state of widgets, gathered from messages of comms."""

from __future__ import annotations

from typing import Any

import msgspec

from nbledger_workers.kernel.outputs.budget import Budget
from nbledger_workers.kernel.outputs.widgets import WidgetStates


def comm(kind: str, comm_id: str, state: Any, **more: Any) -> dict[str, Any]:
    paths, buffers = more.pop("paths", []), more.pop("buffers", [])
    return {
        "msg_type": kind,
        "parent_header": {"msg_id": "cell"},
        "content": {"comm_id": comm_id, "data": {"state": state, "buffer_paths": paths}, **more},
        "buffers": buffers,
    }


def model(name: str, module: str = "@jupyter-widgets/controls", **state: Any) -> dict[str, Any]:
    names = {"_model_name": name, "_model_module": module, "_model_module_version": "2.0.0"}
    return {**names, **state}


def put_out(kind: str, parent: str = "cell", **content: Any) -> dict[str, Any]:
    return {"msg_type": kind, "parent_header": {"msg_id": parent}, "content": content}


def made(limit: int = 10_000, budget: int = 10_000) -> tuple[WidgetStates, Budget]:
    left = Budget(budget)
    return WidgetStates(limit, left), left


def states(widgets: WidgetStates) -> dict[str, Any]:
    encoded = widgets.encoded()
    assert encoded is not None
    whole = msgspec.json.decode(encoded)
    assert (whole["version_major"], whole["version_minor"]) == (2, 0)
    found: dict[str, Any] = whole["state"]
    return found


def test_the_last_state_of_each_widget_is_kept_with_its_buffers() -> None:
    widgets, _ = made()
    assert widgets.encoded() is None
    slider = model("IntSliderModel", value=1, layout="IPY_MODEL_l")
    widgets.take(comm("comm_open", "s", slider, target_name="jupyter.widget"))
    widgets.take(comm("comm_msg", "s", {"value": 7}))
    image = {"paths": [["value"]], "buffers": [b"\x00\xff"]}
    widgets.take(comm("comm_open", "i", model("ImageModel", format="png"), **image))
    # What has no model is no widget, and what is no state is none of a widget's.
    widgets.take(comm("comm_open", "other", {"a": 1}))
    no_states: list[Any] = [{"method": "custom", "content": {}}, None, []]
    for odd in no_states:
        widgets.take({**comm("comm_msg", "s", {}), "content": {"comm_id": "s", "data": odd}})
    widgets.take(comm("comm_msg", "s", ["value"]))
    assert states(widgets) == {
        "s": {
            "model_name": "IntSliderModel",
            "model_module": "@jupyter-widgets/controls",
            "model_module_version": "2.0.0",
            "state": {**slider, "value": 7},
        },
        "i": {
            "model_name": "ImageModel",
            "model_module": "@jupyter-widgets/controls",
            "model_module_version": "2.0.0",
            "state": model("ImageModel", format="png"),
            "buffers": [{"data": "AP8=", "encoding": "base64", "path": ["value"]}],
        },
    }
    widgets.take(comm("comm_msg", "i", {"value": None}))
    assert "buffers" not in states(widgets)["i"]


def test_a_widget_of_outputs_takes_what_is_put_out_for_it() -> None:
    widgets, _ = made()
    opened = model("OutputModel", "@jupyter-widgets/output", outputs=[], msg_id="")
    for name in ("outer", "inner"):
        widgets.take(comm("comm_open", name, dict(opened)))
    assert not widgets.captures(put_out("stream", name="stdout", text="before"))
    widgets.take(comm("comm_msg", "outer", {"msg_id": "cell"}))
    assert widgets.captures(put_out("stream", name="stdout", text="a"))
    assert not widgets.captures(put_out("stream", "another", name="stdout", text="no"))
    assert not widgets.captures(put_out("update_display_data", data={}))
    widgets.take(comm("comm_msg", "inner", {"msg_id": "cell"}))
    assert widgets.captures(put_out("error", ename="E", evalue="v", traceback=["t"]))
    widgets.take(comm("comm_msg", "inner", {"msg_id": ""}))
    assert widgets.captures(put_out("stream", name="stdout", text="b"))
    shown: dict[str, Any] = {"data": {"text/plain": "1"}, "metadata": {}}
    assert widgets.captures(put_out("execute_result", execution_count=3, **shown))
    widgets.take(comm("comm_msg", "outer", {"msg_id": ""}))
    assert not widgets.captures(put_out("stream", name="stdout", text="after"))
    found = states(widgets)
    assert found["outer"]["state"]["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": "ab"},
        {"output_type": "execute_result", "execution_count": 3, **shown},
    ]
    (error,) = found["inner"]["state"]["outputs"]
    assert (error["output_type"], error["ename"], error["evalue"]) == ("error", "E", "v")
    # Cleared when the next comes, or at once.
    widgets.take(comm("comm_msg", "outer", {"msg_id": "cell"}))
    assert widgets.captures(put_out("clear_output", wait=True))
    assert len(states(widgets)["outer"]["state"]["outputs"]) == 2
    assert widgets.captures(put_out("display_data", **shown))
    assert states(widgets)["outer"]["state"]["outputs"] == [
        {"output_type": "display_data", **shown}
    ]
    assert widgets.captures(put_out("clear_output"))
    assert states(widgets)["outer"]["state"]["outputs"] == []


def test_a_widget_that_is_closed_takes_no_more() -> None:
    widgets, _ = made()
    opened = model("OutputModel", "@jupyter-widgets/output", outputs=[], msg_id="")
    for name in ("outer", "inner"):
        widgets.take(comm("comm_open", name, dict(opened)))
        widgets.take(comm("comm_msg", name, {"msg_id": "cell"}))
    assert widgets.captures(put_out("stream", name="stdout", text="a"))
    for closed, goes_on in (("inner", True), ("unknown", True), ("outer", False)):
        widgets.take(put_out("comm_close", comm_id=closed, data={}))
        assert widgets.captures(put_out("stream", name="stdout", text="b")) is goes_on
    outputs = {name: each["state"]["outputs"] for name, each in states(widgets).items()}
    # What they have taken stays.
    assert [(name, each[0]["text"]) for name, each in outputs.items()] == [
        ("outer", "bb"),
        ("inner", "a"),
    ]


def test_more_than_a_run_may_put_out_is_not_kept() -> None:
    for limit, budget in ((1_000, 10_000), (10_000, 1_000)):
        widgets, left = made(limit, budget)
        widgets.take(comm("comm_open", "s", model("TextModel", value="x")))
        for _ in range(100):
            # What is replaced counts once.
            widgets.take(comm("comm_msg", "s", {"value": "x" * 500}))
        assert not widgets.dropped
        assert left.left < budget - 500
        widgets.take(comm("comm_msg", "s", {"b": None}, paths=[["b"]], buffers=[b"x" * 400]))
        assert [widgets.dropped] == [True]
        assert widgets.encoded() is None
        assert left.left == budget
        widgets.take(comm("comm_open", "t", model("TextModel", value="x")))
        assert widgets.encoded() is None
        assert not widgets.captures(put_out("stream", name="stdout", text="of the cell"))


def test_what_is_put_out_into_a_widget_costs_time_by_its_size_alone() -> None:
    widgets, left = made(30_000_000, 30_000_000)
    opened = model("OutputModel", "@jupyter-widgets/output", msg_id="cell")
    widgets.take(comm("comm_open", "w", {**opened, "outputs": []}))
    widgets.take(comm("comm_msg", "w", {"msg_id": "cell"}))
    before = left.left
    # Copied for each piece, this text would be 500 GB.
    for _ in range(100_000):
        assert widgets.captures(put_out("stream", name="stdout", text="x" * 99 + "\n"))
    assert 10_000_000 <= before - left.left <= 10_000_100
    for _ in range(30_000):
        assert widgets.captures(put_out("display_data", data={"text/plain": "1"}))
    text, *shown = states(widgets)["w"]["state"]["outputs"]
    assert (len(text["text"]), len(shown)) == (10_000_000, 30_000)
    assert left.left < before - 10_000_000 - 30_000 * 50
    # Text goes on after the state was looked at; what the widget tells itself replaces it.
    widgets.captures(put_out("stream", name="stderr", text="a\ufffd"))
    assert states(widgets)["w"]["state"]["outputs"][-1]["text"] == "a\ufffd"
    widgets.captures(put_out("stream", name="stderr", text="b"))
    assert states(widgets)["w"]["state"]["outputs"][-1]["text"] == "a\ufffdb"
    told = {"output_type": "stream", "name": "stdout", "text": "own"}
    widgets.take(comm("comm_msg", "w", {"outputs": [told]}))
    widgets.captures(put_out("stream", name="stdout", text="+"))
    assert states(widgets)["w"]["state"]["outputs"] == [{**told, "text": "own+"}]
