"""What outputs are, by the media types of their forms."""

import functools
from enum import StrEnum

from nbledger_domain.execution import Output
from nbledger_domain.vocabulary.media_types import WIDGETS, is_json
from nbledger_domain.vocabulary.outputs import TABLE_MEMBER, TEXT_OUTPUTS

_CHARTS = (
    "application/vnd.plotly.",
    "application/vnd.vega.",
    "application/vnd.vegalite.",
    "application/vnd.bokehjs_exec.",
    "application/vnd.holoviews_exec.",
)


class OutputKind(StrEnum):
    """What an output shows, whatever the forms that it comes in."""

    STREAM = "stream"
    ERROR = "error"
    TABLE = "table"
    CHART = "chart"
    IMAGE = "image"
    LATEX = "latex"
    WIDGET = "widget"
    JSON = "json"
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"
    OTHER = "other"

    @property
    def is_plot(self) -> bool:
        """Whether it is a picture or a chart."""
        return self in (OutputKind.IMAGE, OutputKind.CHART)

    @property
    def is_data(self) -> bool:
        """Whether it is for programs to read."""
        return self in (OutputKind.TABLE, OutputKind.JSON)


def kind_of(output: Output) -> OutputKind:
    """What the output is: the most telling of its forms decides."""
    if output.output_type in TEXT_OUTPUTS:
        return OutputKind(output.output_type)
    return _kind(
        output.metadata.get(TABLE_MEMBER) is True,
        tuple(form.content_type for form in output.representations),
    )


@functools.lru_cache(maxsize=1000)
def _kind(is_table: bool, content_types: tuple[str, ...]) -> OutputKind:  # noqa: FBT001
    types = [content_type.partition(";")[0].strip() for content_type in content_types]
    if any(is_chart(media_type) for media_type in types):
        return OutputKind.CHART
    if is_table or "text/csv" in types:
        return OutputKind.TABLE
    # A formula may come as a picture, too.
    if "text/latex" in types:
        return OutputKind.LATEX
    if any(media_type.startswith("image/") for media_type in types):
        return OutputKind.IMAGE
    if any(media_type.startswith(WIDGETS) for media_type in types):
        return OutputKind.WIDGET
    if any(is_json(media_type) for media_type in types):
        return OutputKind.JSON
    for media_type, kind in _PLAIN.items():
        if media_type in types:
            return kind
    return OutputKind.OTHER


_PLAIN = {
    "text/html": OutputKind.HTML,
    "text/markdown": OutputKind.MARKDOWN,
    "application/pdf": OutputKind.OTHER,
    "text/plain": OutputKind.TEXT,
}


def is_chart(media_type: str) -> bool:
    """Whether this is the description of a chart, which a library draws."""
    return media_type.startswith(_CHARTS)
