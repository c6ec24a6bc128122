"""What media types stand for."""

_VECTOR_PLOTS = ("application/vnd.plotly.", "application/vnd.vega.", "application/vnd.vegalite.")


def is_plot(content_type: str) -> bool:
    """Whether output of this media type is a picture or a chart."""
    return content_type.startswith(("image/", *_VECTOR_PLOTS))
