"""A consumer of nbledger's events whose effects in PostgreSQL happen exactly once (librdkafka).

Positions of events have no gaps. So one row says how far this consumer is, and moves in the
transaction that has the effects. README.md beside this folder says why, and lists the settings.
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

import pg8000.dbapi
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

TOPIC = os.environ.get("KAFKA_TOPIC", "nbledger.events")
PROJECT = os.environ["PROJECT_URL"].rstrip("/")  # https://host/api/{tenant}/{project}
SOURCE = "/api/{}/{}/".format(*PROJECT.split("/")[-2:])  # the sources of its events begin so
NAME = os.environ.get("CONSUMER_NAME", "example")
START_AFTER = int(os.environ.get("START_AFTER", "0"))
PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "10"))
IDLE_SECONDS = float(os.environ.get("IDLE_SECONDS", "60"))
BATCH, MOST_HELD = 500, 20_000

ENDS = {
    "execution.completed.v1": "Completed",
    "execution.failed.v1": "Failed",
    "execution.timed-out.v1": "TimedOut",
    "execution.kernel-died.v1": "KernelDied",
    "execution.cancelled.v1": "Cancelled",
}
AWAY = (KafkaException, json.JSONDecodeError, OSError, pg8000.dbapi.Error)
stopping = threading.Event()


class Event(NamedTuple):
    position: int
    type: str  # without "nbledger."; the number at its end is the version of the data
    stream: str
    subject: str  # the notebook, of an execution, too
    time: str
    data: dict[str, Any] | None  # None: erased
    fault: str = ""


def handle(cursor: Any, event: Event) -> None:
    """Your effects, in the transaction of the position. This is the part to replace."""
    if event.fault:
        raise ValueError(event.fault)
    if event.type == "notebook.deleted.v1":  # the tombstone of a notebook and its executions
        cursor.execute("DELETE FROM run WHERE notebook_id = %s", (event.subject,))
    elif event.type == "execution.requested.v1":
        cursor.execute(
            "INSERT INTO run (execution_id, notebook_id, status) VALUES (%s, %s, 'Requested')",
            (event.stream, event.subject),
        )
    elif event.type == "execution.cell-executed.v1":
        if event.data is None:  # erased: of what was in it nothing is left
            return
        cursor.execute(
            "UPDATE run SET cells = cells + 1, cell_seconds = cell_seconds + %s "
            "WHERE execution_id = %s",
            (float(event.data["duration"]), event.stream),
        )
    elif event.type in ENDS:
        status = ENDS[event.type]
        cursor.execute("UPDATE run SET status = %s WHERE execution_id = %s", (status, event.stream))
        cursor.execute(
            "INSERT INTO run_count VALUES (%s, 1) "
            "ON CONFLICT (status) DO UPDATE SET runs = run_count.runs + 1",
            (status,),
        )
    else:
        return  # a type, or a version of one, that this program does not know
    cursor.execute(
        "INSERT INTO run_log VALUES (%s, %s, %s, CAST(CAST(%s AS text) AS timestamptz))",
        (event.position, event.type, event.stream, event.time),
    )


class Follower:
    def __init__(self, database: Any) -> None:
        self.database = database
        self.position = 0
        self.offsets: dict[str, int] = {}
        self.held: dict[int, Message] = {}  # records whose turn has not come, by position
        self.load()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        cursor = self.database.cursor()
        try:
            yield cursor
            self.database.commit()
        except BaseException:
            self.database.rollback()
            raise

    def load(self) -> None:
        with self.transaction() as cursor:
            cursor.execute(
                "INSERT INTO consumer (name, position) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (NAME, START_AFTER),
            )
            cursor.execute(
                "SELECT position, CAST(offsets AS text) FROM consumer WHERE name = %s", (NAME,)
            )
            self.position, offsets = cursor.fetchone()
        self.offsets = json.loads(offsets)

    def apply(self, events: list[Event], through: int, offsets: dict[str, int]) -> None:
        """The effects of these events, and the position, in one transaction."""
        with self.transaction() as cursor:
            # First of all, so that another instance waits here, and then finds itself overtaken.
            cursor.execute(
                "UPDATE consumer SET position = %s, offsets = CAST(%s AS jsonb) "
                "WHERE name = %s AND position = %s",
                (through, json.dumps(offsets), NAME, self.position),
            )
            moved = cursor.rowcount == 1
            for event in events if moved else ():
                self.deal_with(cursor, event)
        if moved:
            self.position, self.offsets = through, offsets
        else:
            self.load()

    def deal_with(self, cursor: Any, event: Event) -> None:
        cursor.execute("SAVEPOINT event")  # one bad event undoes itself alone
        try:
            handle(cursor, event)
        except (LookupError, TypeError, ValueError, pg8000.dbapi.Error) as error:
            if isinstance(error, pg8000.dbapi.Error) and not is_poison(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT event")
            bury(cursor, f"position {event.position}", error)

    def catch_up(self) -> None:
        """Take from the store what the topic does not have, or no longer."""
        following = self.position
        while following is not None:
            page = feed(self.position, BATCH)
            if page["position"] > self.position:
                events = [told(each) for each in page["events"]]
                self.apply(events, page["position"], self.offsets)
            following = page["next"]

    def hold(self, record: Message) -> None:
        """Keep a record until its turn; one that has come before is dropped, marked or not.

        `ce_replay` marks what is told once more on request. The position says all that matters.
        """
        try:
            position = int(dict(record.headers() or ())["ce_position"])
        except (LookupError, ValueError) as error:
            # No event of nbledger. Positions do not depend on it.
            place = f"{TOPIC} {record.partition()} {record.offset()} {record.timestamp()[1]}"
            with self.transaction() as cursor:
                bury(cursor, place, error)
            return
        if position > self.position:
            self.held[position] = record

    def step(self) -> bool:
        """Deal with the next events in order; False if the next one is not there."""
        self.held = {at: each for at, each in self.held.items() if at > self.position}
        ready: list[Message] = []
        while len(ready) < BATCH and (at := self.position + 1 + len(ready)) in self.held:
            ready.append(self.held[at])
        if ready:
            events = [event for each in ready if (event := understood(each))]
            offsets = self.offsets | {str(each.partition()): each.offset() + 1 for each in ready}
            self.apply(events, self.position + len(ready), offsets)
        return bool(ready)

    def follow(self) -> None:
        """Read the topic until told to stop, or until something is missing on it."""
        consumer = Consumer(kafka_options())
        try:
            topic = consumer.list_topics(TOPIC, timeout=30).topics[TOPIC]
            if not topic.partitions:
                raise TimeoutError(f"there is no topic {TOPIC} yet")
            if not self.offsets:
                # The end of the topic first, and the store then: so nothing is between them.
                self.offsets = {
                    str(each): consumer.get_watermark_offsets(
                        TopicPartition(TOPIC, each), timeout=30
                    )[1]
                    for each in topic.partitions
                }
                self.catch_up()
            # Assigned, not subscribed: all partitions are ours, and nothing is rebalanced.
            consumer.assign(
                [
                    TopicPartition(TOPIC, each, self.offsets.get(str(each), 0))
                    for each in topic.partitions
                ]
            )
            print(f"at work after position {self.position}", file=sys.stderr, flush=True)
            self.held.clear()
            moved = time.monotonic()
            while not stopping.is_set():
                for record in consumer.consume(BATCH, timeout=0.5):
                    if record.error() is None:
                        self.hold(record)
                    else:  # librdkafka tries again by itself
                        print(f"Kafka: {record.error()}", file=sys.stderr, flush=True)
                while self.step():
                    moved = time.monotonic()
                waited = time.monotonic() - moved
                limit = PATIENCE_SECONDS if self.held else IDLE_SECONDS
                if waited > limit or len(self.held) > MOST_HELD:
                    self.offsets = {}  # ask the store, and go on at the end of the topic
                    return
        finally:
            consumer.close()


def is_poison(error: pg8000.dbapi.Error) -> bool:
    """Whether the data is at fault: classes 22 and 23 of SQLSTATE, and not the database."""
    told = error.args[0] if error.args else None
    return isinstance(told, dict) and str(told.get("C", ""))[:2] in ("22", "23")


def bury(cursor: Any, place: str, error: Exception) -> None:
    print(f"cannot deal with {place}: {error!r}", file=sys.stderr, flush=True)
    cursor.execute(
        "INSERT INTO dead_letter (consumer, place, fault) VALUES (%s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        (NAME, place, repr(error)),
    )


def feed(after: int, limit: int) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{PROJECT}/events?{urlencode({'after': after, 'limit': limit})}",
        headers={"Authorization": f"Bearer {os.environ['API_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        page: dict[str, Any] = json.load(answer)
        return page


def understood(record: Message) -> Event | None:
    """The event of a record; None if it is of another project."""
    headers = {name.removeprefix("ce_"): value.decode() for name, value in record.headers()}
    if not headers["source"].startswith(SOURCE):
        return None
    position, fault, data = int(headers["position"]), "", None
    if "dataref" in headers:  # too large for a message; the feed has it
        page = feed(position - 1, 1)
        data = next((e["data"] for e in page["events"] if e["position"] == position), None)
    elif record.value() and headers.get("erased") != "true":
        try:
            data = json.loads(record.value())
        except ValueError as error:
            fault = f"no JSON: {error}"
    return Event(
        position=position,
        type=headers["type"].removeprefix("nbledger."),
        stream=headers["subject"],
        subject=headers.get("notebookid", headers["subject"]),
        time=headers["time"],
        data=data,
        fault=fault,
    )


def told(entry: dict[str, Any]) -> Event:
    """An event as the feed tells it."""
    names = ("position", "type", "streamId", "subjectId", "time", "data")
    return Event(*(entry[name] for name in names))


def kafka_options() -> dict[str, Any]:
    named = {
        "bootstrap.servers": "KAFKA_BOOTSTRAP_SERVERS",
        "security.protocol": "KAFKA_SECURITY_PROTOCOL",
        "ssl.ca.location": "KAFKA_CA_FILE",
        "sasl.mechanism": "KAFKA_SASL_MECHANISM",
        "sasl.username": "KAFKA_USERNAME",
        "sasl.password": "KAFKA_PASSWORD",
    }
    options = {name: os.environ[each] for name, each in named.items() if each in os.environ}
    if "sasl.username" in options:
        options.setdefault("sasl.mechanism", "SCRAM-SHA-512")
    return options | {
        "group.id": NAME,  # librdkafka wants a name; no group is joined and nothing committed
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "topic.metadata.refresh.interval.ms": 30_000,
    }


def connect() -> Any:
    place = urlsplit(os.environ["DATABASE_URL"])
    database = pg8000.dbapi.connect(
        user=unquote(place.username or ""),
        password=unquote(place.password or ""),
        host=place.hostname or "localhost",
        port=place.port or 5432,
        database=place.path.lstrip("/"),
        timeout=60,
    )
    # An instance that is frozen in a transaction does not hold up the others.
    database.cursor().execute("SET idle_in_transaction_session_timeout = '30s'")
    database.commit()
    return database


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.is_set():
        try:
            database = connect()
            try:
                follower = Follower(database)
                while not stopping.is_set():
                    follower.follow()
            finally:
                database.close()
        except AWAY as error:
            # The database says where to go on, whatever has become of the last transaction.
            print(f"trying again: {error!r}", file=sys.stderr, flush=True)
            stopping.wait(1)


if __name__ == "__main__":
    main()
