"""What is put out into one output widget, gathered in time that grows with it and no faster."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from nbledger_workers.kernel.outputs.encoding import to_json
from nbledger_workers.kernel.outputs.errors import error_text


class CapturedOutputs:
    """The outputs of a widget, from those that it has; `add` each further one."""

    def __init__(self, outputs: Sequence[Any] = ()) -> None:
        self._outputs = list(outputs)
        # Text that goes on the last output, a stream of this name.
        self._name: str | None = None
        self._text = io.StringIO()
        last = self._outputs[-1] if self._outputs else None
        if isinstance(last, dict) and last.get("output_type") == "stream":
            name, text = last.get("name"), last.get("text")
            if isinstance(name, str) and isinstance(text, str):
                self._name = name
                self._text.write(text)

    def add(self, kind: str, content: Mapping[str, Any]) -> int:
        """Take one of `OUTPUT_TYPES`; returns by how many bytes they grow."""
        if kind == "stream":
            return self._add_text(str(content.get("name", "stdout")), str(content.get("text", "")))
        self._join()
        output = _shown(kind, content)
        self._outputs.append(output)
        return len(to_json(output))

    @property
    def outputs(self) -> list[Any]:
        """All of them, as a notebook has them."""
        if self._name is not None:
            self._outputs[-1] = {**self._outputs[-1], "text": self._text.getvalue()}
        return self._outputs

    def _add_text(self, name: str, text: str) -> int:
        growth = 0
        if self._name != name:
            self._join()
            output = {"output_type": "stream", "name": name, "text": ""}
            self._outputs.append(output)
            self._name, growth = name, len(to_json(output))
        self._text.write(text)
        return growth + len(text.encode("utf-8", "replace"))

    def _join(self) -> None:
        """Have the text in its output: another one follows."""
        if self._name is not None:
            self._outputs = self.outputs
            self._name, self._text = None, io.StringIO()


def _shown(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "error":
        told = error_text(content)
        return {
            "output_type": kind,
            "ename": told.name,
            "evalue": told.value,
            "traceback": told.traceback,
        }
    output = {
        "output_type": kind,
        "data": content.get("data") or {},
        "metadata": content.get("metadata") or {},
    }
    if kind == "execute_result":
        output["execution_count"] = content.get("execution_count")
    return output
