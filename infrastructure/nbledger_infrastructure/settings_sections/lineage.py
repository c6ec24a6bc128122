"""Settings of lineage."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class OpenLineage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Telling a lineage tool of runs and datasets, by OpenLineage 2-0-2; the relay does it.

    With the ``transport`` ``http`` each document is posted to ``endpoint`` below ``url``, within
    ``timeout_seconds``, with ``api_key`` as its bearer token, and packed where ``compression`` is
    ``gzip``. Up to ``concurrency`` are posted at one moment. ``proxy_url`` is an HTTP proxy;
    ``ca_file`` (PEM) has the authorities of the receiver's certificate, by default those of the
    system. With ``kafka`` documents go to the topic ``lineage`` of this installation's broker.

    ``namespace`` begins all namespaces: it names this installation among those that the receiver
    hears from. ``names`` are those of jobs and datasets: ``id``, which never change and tell
    nothing, or ``readable``. A run that repeats another has that one as its ``parent``, or as a
    ``dependency`` alone, by ``repeats``. ``start`` is where a relay begins that has not told
    anything before: at the ``beginning`` of all events, or with those that come from ``now`` on.
    """

    transport: Literal["none", "http", "kafka"] = "none"
    url: Annotated[str, Meta(pattern=r"^(https?://\S+)?$")] = ""
    endpoint: Annotated[str, Meta(pattern=r"^\S*$")] = "api/v1/lineage"
    api_key: str = ""
    timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    compression: Literal["none", "gzip"] = "none"
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 4
    proxy_url: str = ""
    ca_file: str = ""
    namespace: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.:/-]{1,100}$")] = "nbledger"
    names: Literal["id", "readable"] = "id"
    repeats: Literal["parent", "dependency"] = "parent"
    start: Literal["beginning", "now"] = "beginning"
