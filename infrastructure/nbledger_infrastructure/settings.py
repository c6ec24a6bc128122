"""Settings, with their defaults and bounds.

A setting ``port`` of the section ``http`` is ``[http] port = …`` in the file and
``NBLEDGER_HTTP_PORT`` in the environment. The file is named by ``NBLEDGER_CONFIG``; without
it ``nbledger.toml`` in the working folder is read, if there is one. Lists and tables are
written as JSON in the environment.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from nbledger_domain.vocabulary.languages import KERNELSPECS
from nbledger_infrastructure.egress.addresses import networks
from nbledger_infrastructure.settings_sections.environments import (
    Environments as Environments,  # noqa: PLC0414 (others take it from here)
)
from nbledger_infrastructure.settings_sections.lineage import OpenLineage

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
# As browsers spell them: no path, no slash at the end, no capital letters.
Origin = Annotated[str, Meta(pattern=r"^https?://[^/\s,*A-Z]+$")]
BASE_PATH_PATTERN = r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$"


class Postgres(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The database. ``dsn`` is a ``postgresql://`` URL; it may hold a password."""

    dsn: str = ""
    pool_size: Positive = 8


class Kafka(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker. ``idempotent`` needs one that answers InitProducerId, as Apache Kafka does.

    ``partitions`` are those of the topic of events (the broker of ``nbledger up`` has four),
    ``command_partitions`` those of each topic of commands: no fewer than there will be workers.
    ``session_timeout_seconds`` is how long a silent worker stays in its consumer group; Apache
    Kafka takes 6 at the least. ``fetch_wait_seconds`` is how long the broker may hold back its
    answer to a worker that asks for commands when there are none.

    With ``keep_offsets`` the offsets of events go on where they were after the broker has forgotten
    them, so that subscribers who hold one miss nothing; Tansu takes the gap that this needs, Apache
    Kafka does not. ``embedded_memory_mb`` is how many millions of bytes of memory the broker of
    ``nbledger up`` may take before it is started anew; 0 is no limit.

    ``state_topics`` says whether the newest state of each notebook, execution and dataset is
    published: ``on``, ``off``, or ``auto``, which is off with ``keep_offsets``.
    """

    bootstrap_servers: str = ""
    topic_prefix: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,100}$")] = "nbledger"
    idempotent: bool = True
    partitions: Annotated[int, Meta(ge=1, le=1000)] = 6
    command_partitions: Annotated[int, Meta(ge=1, le=1000)] = 6
    replication_factor: Annotated[int, Meta(ge=1, le=9)] = 1
    retention_hours: Positive = 168
    session_timeout_seconds: Seconds = 10.0
    fetch_wait_seconds: Seconds = 0.5
    keep_offsets: bool = False
    embedded_memory_mb: NotNegative = 80
    state_topics: Literal["auto", "on", "off"] = "auto"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str = ""
    password: str = ""
    ca_file: str = ""


class Artifacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where outputs and files are kept: ``file:///folder`` or ``s3://bucket/prefix``.

    For S3 the usual ``AWS_…`` variables give region, endpoint and credentials.

    While the store is not usable, what a run puts out waits in files of its worker, up to
    ``spool_mb`` for each run, beyond which its cells wait. A run whose outputs cannot be kept for
    ``unavailable_seconds`` ends as ``artifact_store_unavailable``.
    """

    url: str = ""
    unavailable_seconds: Seconds = 600.0
    spool_mb: Positive = 1_000


class Http(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The API. ``public_url`` is what clients reach it by, for the links in answers.

    The schemas of events have addresses that begin with ``public_url``, too, or else with ``host``
    and ``port``; messages name them, so the relay needs the same settings as the API.

    Everything but the health checks is below ``base_path``, such as ``/nbledger``, for a proxy that
    passes paths on as they are. A proxy in ``trusted_proxies``, which are addresses and networks,
    is believed what it says by ``X-Forwarded-Proto``, ``X-Forwarded-Host`` and
    ``X-Forwarded-Prefix``; anybody else is not.

    Pages of ``cors_origins``, such as ``https://app.example.com``, may use the API from a browser;
    those of ``cors_credentials`` may send cookies as well.

    ``rate_limit`` is the number of requests a token may make per second; 0 is no limit.
    ``max_input_file_mb`` bounds one input file of a notebook, ``max_input_mb`` and
    ``max_input_files`` all that one notebook has at a time.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str = ""
    base_path: Annotated[str, Meta(pattern=BASE_PATH_PATTERN)] = ""
    trusted_proxies: list[str] = []
    cors_origins: list[Origin] = []
    cors_credentials: list[Origin] = []
    max_body_mb: Positive = 64
    max_notebook_mb: Positive = 16
    max_dataset_mb: Positive = 1024
    max_library_mb: Positive = 100
    max_input_file_mb: Positive = 200
    max_input_mb: Positive = 500
    max_input_files: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    rate_limit: Annotated[int, Meta(ge=0)] = 0
    download_link_hours: Positive = 24
    drain_seconds: Seconds = 5.0

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for what is no network."""
        networks(self.trusted_proxies)

    @property
    def address(self) -> str:
        """What clients reach the API by, without a slash at the end."""
        return self.public_url.rstrip("/") or self.own_address

    @property
    def own_address(self) -> str:
        """Where the API listens, as an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.base_path}"


class Worker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The kernel worker.

    ``kernels`` maps the kernel types of the API to kernelspec names. ``concurrency`` is how many
    slots it has for runs; 0 takes ``slots_per_core`` for each processor. A run takes one slot, or
    what ``weights`` says of its kernel type. Between ``pool_min`` and
    ``pool_max`` kernels of each type are started ahead and wait, as many as the load asks for;
    those of other languages than Python only once their type has been used.

    ``isolation`` is what keeps kernels apart: ``auto`` takes the best that the machine offers; a
    level that is named and missing stops the worker from starting. With ``network`` none a
    kernel reaches nothing but itself, which needs ``namespaces``.

    From the level ``landlock`` on, a kernel writes in its run's folder and in
    ``writable_folders`` only, unless ``read_only_system`` is false. It does not see
    ``hidden_folders``, nor what the service keeps, except for ``readable_folders``. It cannot
    connect to the TCP ports of the database, the broker and this worker's health checks, of
    whatever host, nor to ``closed_ports``; ``open_ports`` stay open all the same.

    ``run_as`` is the user that kernels run as where the worker is root: a name, a number, or
    a range of numbers such as ``70000-79999``, from which each run gets its own. ``auto`` is a
    range that nobody uses; nothing is the worker's own user.

    ``exit_seconds`` bounds the orderly end of a kernel, before what its notebook leaves is
    collected: threads that are no daemons end, exit hooks run, files are written out. A warning of
    the run tells of what is cut.

    ``lease_seconds`` is the same for workers and relays: a worker that does not renew its leases
    for so long, though it could, loses its runs. ``database_away_seconds`` is how long runs go on
    while the database cannot be reached; ``pending_mb`` bounds what each of them keeps in memory
    to record later, beyond which its cells wait.

    ``report_browser`` is the Chromium that makes a PDF of each report as well: a program's name or
    path, ``auto`` for one that is found, nothing for none.
    """

    concurrency: Annotated[int, Meta(ge=0, le=1000)] = 0
    slots_per_core: Annotated[float, Meta(gt=0, le=100)] = 2.0
    weights: dict[str, Annotated[float, Meta(gt=0, le=1000)]] = {}
    kernels: dict[str, str] = msgspec.field(default_factory=lambda: dict(KERNELSPECS))
    pool_min: Annotated[int, Meta(ge=0, le=100)] = 1
    pool_max: Annotated[int, Meta(ge=0, le=100)] = 4
    lease_seconds: Seconds = 20.0
    renew_seconds: Seconds = 5.0
    database_away_seconds: Seconds = 600.0
    pending_mb: Positive = 32
    shutdown_grace_seconds: Seconds = 30.0
    exit_seconds: Seconds = 10.0
    work_folder: str = ""
    isolation: Literal["auto", "process", "landlock", "namespaces"] = "auto"
    network: Literal["host", "none"] = "host"
    read_only_system: bool = True
    hidden_folders: list[str] = []
    readable_folders: list[str] = []
    writable_folders: list[str] = []
    closed_ports: list[Port] = []
    open_ports: list[Port] = []
    run_as: str = "auto"
    report_browser: str = "auto"


class RunLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one run may use, its kernel with all that it starts; 0 is no limit.

    Megabytes are millions of bytes. ``processes`` counts those at one moment, ``open_files``
    those of one process, ``disk_mb`` the files in the run's folder. Outputs beyond their limits
    are dropped, and it is recorded that they were. ``artifact_mb_per_file``,
    ``artifact_mb_per_run`` and ``artifacts_per_run`` bound what is kept of the files that a run
    leaves; of what is beyond them a warning tells. Every other limit ends the run.
    ``queue_seconds`` is how long a run may wait for a worker.
    """

    memory_mb: NotNegative = 8_000
    cpu_seconds: NotNegative = 0
    processes: NotNegative = 512
    open_files: NotNegative = 4096
    disk_mb: NotNegative = 10_000
    output_mb_per_cell: NotNegative = 20
    output_mb_per_run: NotNegative = 200
    outputs_per_cell: NotNegative = 1000
    artifact_mb_per_file: NotNegative = 2_000
    artifact_mb_per_run: NotNegative = 5_000
    artifacts_per_run: NotNegative = 500
    queue_seconds: NotNegative = 0


class Executions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds for requests to execute; in seconds.

    A kernel type that no live worker offers is refused; with ``queue_without_worker`` the run
    waits for a worker instead.
    """

    default_timeout: Seconds = 1800.0
    max_timeout: Seconds = 86400.0
    queue_without_worker: bool = False


class Queue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many runs a tenant, and a project, may have at once; 0 is no limit.

    Workers hold to the limits on running runs: what is beyond them waits. The API holds to those on
    waiting runs: it refuses a request beyond them.
    """

    max_running_per_tenant: NotNegative = 1_000
    max_running_per_project: NotNegative = 1_000
    max_waiting_per_tenant: NotNegative = 100_000
    max_waiting_per_project: NotNegative = 50_000


class Recovery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds between sweeps, attempts of an execution, hours that idempotency keys are kept."""

    sweep_seconds: Seconds = 2.0
    max_attempts: Positive = 5
    idempotency_hours: Annotated[int, Meta(ge=24, le=8760)] = 24


class Notices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the relay tells by itself, as events; nothing where it is not ``enabled``.

    A run is told of that has taken more than ``slow_factor`` times the upper quartile of the last
    runs of the same cells of its notebook, of which there must be ``slow_least_runs`` at least, and
    more than ``slow_least_seconds``; a factor of 0 is never. A schedule is told of that has failed
    as often in a row as pauses it, or ``schedule_failures`` times where none does, and a notebook
    whose automatic runs have failed as often in a row; 0 is never. A kernel type is told of for
    which runs wait and that no live worker has offered for ``kernel_seconds``.
    """

    enabled: bool = True
    slow_factor: Annotated[float, Meta(ge=0)] = 2.0
    slow_least_runs: Annotated[int, Meta(ge=4, le=20)] = 5
    slow_least_seconds: Annotated[float, Meta(ge=0)] = 5.0
    schedule_failures: Annotated[int, Meta(ge=0, le=1000)] = 3
    kernel_seconds: Annotated[float, Meta(ge=0)] = 30.0


class Webhooks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sending events to webhooks, which the relay does where it is ``enabled``.

    A project may have ``max_per_project`` webhooks. An attempt may take ``timeout_seconds`` in all.
    An event whose message is larger than ``max_body_kb`` is sent without its data, with
    ``dataref`` in its place. Attempts are logged for ``log_days``. After a rotation, the secret
    before signs as well for ``secret_overlap_hours``.

    Only public addresses are connected to, by HTTPS. In ``allowed_networks``, such as
    ``10.1.0.0/16``, others may be, and by HTTP, too; in ``refused_networks`` none may be. With
    ``proxy_url`` everything goes through that HTTP proxy, which then decides which names may be
    reached; the URL may hold a user and a password. Certificates are those of authorities that
    the system trusts, or of one in ``ca_file`` (PEM). ``concurrency`` bounds the attempts at one
    moment, ``concurrency_per_webhook`` those of one webhook. Twice as many attempts as
    ``concurrency`` may wait for slow receivers beside them.
    """

    enabled: bool = True
    max_per_project: Positive = 100
    timeout_seconds: Seconds = 20.0
    max_body_kb: Positive = 256
    log_days: Positive = 30
    secret_overlap_hours: Annotated[int, Meta(ge=0, le=8760)] = 24
    allowed_networks: list[str] = []
    refused_networks: list[str] = []
    proxy_url: Annotated[str, Meta(pattern=r"^(https?://[^/?#]+/?)?$")] = ""
    ca_file: str = ""
    concurrency: Annotated[int, Meta(ge=4, le=10_000)] = 256
    concurrency_per_webhook: Annotated[int, Meta(ge=1, le=100)] = 4

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for what is no network."""
        networks([*self.allowed_networks, *self.refused_networks])


class Audit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The logs that prove what is in the event store, one for each tenant.

    ``origin`` names this installation for ever, such as ``ledger.example.com``: the origins of its
    logs begin with it. ``key_file`` has the Ed25519 key (PEM) that signs checkpoints, every
    ``checkpoint_seconds`` where something was recorded. ``state_folder`` keeps what was signed
    last; neither is to be where the database is. In place of a file, ``key_command`` names a
    program that signs, with its arguments: called with ``public`` it prints the public key, called
    with ``sign`` it reads what to sign and prints the signature. A log in which nothing is
    recorded is checked, and its newest checkpoint sent out again, every
    ``idle_checkpoint_seconds``.

    ``copies`` is where checkpoints are copied to, each log's newest one at most every
    ``copy_seconds``: ``file:///folder``, which must be there, or ``s3://bucket/prefix``, whose
    default retention keeps them; for S3 the usual ``AWS_…`` variables give the rest.

    ``timestamp_url`` is an authority that stamps the checkpoint of each log every
    ``timestamp_seconds`` (RFC 3161); its certificate must lead to one of ``timestamp_ca_file``
    (PEM). Needs the extra ``timestamps``. An event that is dated before the last such time by more
    than ``skew_seconds``, or earlier than an event before it, is told in the log.

    ``witness_file`` lists the witnesses that cosign,
    each with its address, and their quorum (C2SP tlog-policy); no file, no witness.
    ``maximum_age_seconds`` is how old cosignatures may be by the policy that auditors are told;
    they are renewed in half that time.
    """

    origin: Annotated[str, Meta(pattern=r"^(?!\w+://)[^\s+\x00-\x1f]{0,200}$")] = ""
    key_file: str = ""
    key_command: list[str] = []
    state_folder: str = ""
    checkpoint_seconds: Seconds = 10.0
    idle_checkpoint_seconds: Seconds = 3600.0
    copies: str = ""
    copy_seconds: Annotated[float, Meta(ge=0)] = 60.0
    timestamp_url: str = ""
    timestamp_ca_file: str = ""
    timestamp_seconds: Seconds = 3600.0
    skew_seconds: Seconds = 60.0
    witness_file: str = ""
    maximum_age_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] = 3600


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logging. ``auto`` is coloured on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class HealthServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where roles without an API answer /health/live and /health/ready; port 0 is nowhere."""

    host: str = "127.0.0.1"
    port: Port = 0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    postgres: Postgres = Postgres()
    kafka: Kafka = Kafka()
    artifacts: Artifacts = Artifacts()
    http: Http = Http()
    worker: Worker = Worker()
    limits: RunLimits = RunLimits()
    execution: Executions = Executions()
    queue: Queue = Queue()
    recovery: Recovery = Recovery()
    notices: Notices = Notices()
    webhooks: Webhooks = Webhooks()
    lineage: OpenLineage = OpenLineage()
    audit: Audit = Audit()
    environments: Environments = Environments()
    log: Log = Log()
    health: HealthServer = HealthServer()
