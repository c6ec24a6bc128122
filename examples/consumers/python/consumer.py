"""A consumer of nbledger's events whose effects in PostgreSQL happen exactly once (aiokafka).

Positions of events have no gaps. So one row says how far this consumer is, and moves in the
transaction that has the effects. README.md beside this folder says why, and lists the settings.
"""

import asyncio
import json
import os
import signal
import ssl
import sys
import time
from contextlib import suppress
from typing import Any, NamedTuple

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

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
POISON = (
    *(LookupError, TypeError, ValueError),
    *(asyncpg.DataError, asyncpg.IntegrityConstraintViolationError),
)
AWAY = (
    *(KafkaError, httpx.HTTPError, json.JSONDecodeError, OSError, TimeoutError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError),
)


class Event(NamedTuple):
    position: int
    type: str  # without "nbledger."; the number at its end is the version of the data
    stream: str
    subject: str  # the notebook, of an execution, too
    time: str
    data: dict[str, Any] | None  # None: erased
    fault: str = ""


async def handle(database: asyncpg.Connection, event: Event) -> None:
    """Your effects, in the transaction of the position. This is the part to replace."""
    if event.fault:
        raise ValueError(event.fault)
    if event.type == "notebook.deleted.v1":  # the tombstone of a notebook and its executions
        await database.execute("DELETE FROM run WHERE notebook_id = $1", event.subject)
    elif event.type == "execution.requested.v1":
        await database.execute(
            "INSERT INTO run (execution_id, notebook_id, status) VALUES ($1, $2, 'Requested')",
            *(event.stream, event.subject),
        )
    elif event.type == "execution.cell-executed.v1":
        if event.data is None:  # erased: of what was in it nothing is left
            return
        await database.execute(
            "UPDATE run SET cells = cells + 1, cell_seconds = cell_seconds + $2 "
            "WHERE execution_id = $1",
            *(event.stream, float(event.data["duration"])),
        )
    elif event.type in ENDS:
        status = ENDS[event.type]
        await database.execute(
            "UPDATE run SET status = $2 WHERE execution_id = $1", event.stream, status
        )
        await database.execute(
            "INSERT INTO run_count VALUES ($1, 1) "
            "ON CONFLICT (status) DO UPDATE SET runs = run_count.runs + 1",
            status,
        )
    else:
        return  # a type, or a version of one, that this program does not know
    await database.execute(
        "INSERT INTO run_log VALUES ($1, $2, $3, $4::text::timestamptz)",
        *(event.position, event.type, event.stream, event.time),
    )


class Consumer:
    def __init__(self, database: asyncpg.Connection, http: httpx.AsyncClient) -> None:
        self.database, self.http = database, http
        self.position = 0
        self.offsets: dict[str, int] = {}
        self.held: dict[int, Any] = {}  # records whose turn has not come, by position

    async def load(self) -> None:
        await self.database.execute(
            "INSERT INTO consumer (name, position) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            *(NAME, START_AFTER),
        )
        [row] = await self.database.fetch(
            "SELECT position, offsets::text FROM consumer WHERE name = $1", NAME
        )
        self.position, self.offsets = row["position"], json.loads(row["offsets"])

    async def apply(self, events: list[Event], through: int, offsets: dict[str, int]) -> None:
        """The effects of these events, and the position, in one transaction."""
        async with self.database.transaction():
            # First of all, so that another instance waits here, and then finds itself overtaken.
            moved = await self.database.execute(
                "UPDATE consumer SET position = $3, offsets = $4 WHERE name = $1 AND position = $2",
                *(NAME, self.position, through, json.dumps(offsets)),
            )
            if moved == "UPDATE 1":
                for event in events:
                    await self.deal_with(event)
        if moved == "UPDATE 1":
            self.position, self.offsets = through, offsets
        else:
            await self.load()

    async def deal_with(self, event: Event) -> None:
        try:
            async with self.database.transaction():  # a savepoint: one bad event undoes itself
                await handle(self.database, event)
        except POISON as error:
            await self.bury(f"position {event.position}", error)

    async def bury(self, place: str, error: Exception) -> None:
        print(f"cannot deal with {place}: {error!r}", file=sys.stderr, flush=True)
        await self.database.execute(
            "INSERT INTO dead_letter (consumer, place, fault) VALUES ($1, $2, $3) "
            "ON CONFLICT DO NOTHING",
            *(NAME, place, repr(error)),
        )

    async def feed(self, after: int, limit: int) -> dict[str, Any]:
        answer = await self.http.get(f"{PROJECT}/events", params={"after": after, "limit": limit})
        answer.raise_for_status()
        page: dict[str, Any] = answer.json()
        return page

    async def catch_up(self) -> None:
        """Take from the store what the topic does not have, or no longer."""
        following: int | None = self.position
        while following is not None:
            page = await self.feed(self.position, BATCH)
            if page["position"] > self.position:
                events = [told(each) for each in page["events"]]
                await self.apply(events, page["position"], self.offsets)
            following = page["next"]

    async def hold(self, record: Any) -> None:
        """Keep a record until its turn; one that has come before is dropped, marked or not.

        `ce_replay` marks what is told once more on request. The position says all that matters.
        """
        try:
            position = int(dict(record.headers)["ce_position"])
        except (LookupError, ValueError) as error:
            # No event of nbledger. Positions do not depend on it.
            await self.bury(f"{TOPIC} {record.partition} {record.offset} {record.timestamp}", error)
            return
        if position > self.position:
            self.held[position] = record

    async def understood(self, record: Any) -> Event | None:
        """The event of a record; None if it is of another project."""
        headers = {name.removeprefix("ce_"): value.decode() for name, value in record.headers}
        if not headers["source"].startswith(SOURCE):
            return None
        position, fault, data = int(headers["position"]), "", None
        if "dataref" in headers:  # too large for a message; the feed has it
            page = await self.feed(position - 1, 1)
            data = next((e["data"] for e in page["events"] if e["position"] == position), None)
        elif record.value and headers.get("erased") != "true":
            try:
                data = json.loads(record.value)
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

    async def follow(self, stopping: asyncio.Event) -> None:
        """Read the topic until told to stop, or until something is missing on it."""
        consumer = AIOKafkaConsumer(
            TOPIC,  # without a group: all partitions are ours, and nothing is rebalanced
            auto_offset_reset="earliest",
            metadata_max_age_ms=30_000,
            **kafka_options(),
        )
        try:
            await asyncio.wait_for(consumer.start(), 30)
            partitions = consumer.assignment()
            if not partitions:
                raise TimeoutError(f"there is no topic {TOPIC} yet")
            if not self.offsets:
                # The end of the topic first, and the store then: so nothing is between them.
                ends = await asyncio.wait_for(consumer.end_offsets(partitions), 30)
                self.offsets = {str(each.partition): end for each, end in ends.items()}
                await self.catch_up()
            for each in partitions:
                consumer.seek(each, self.offsets.get(str(each.partition), 0))
            print(f"at work after position {self.position}", file=sys.stderr, flush=True)
            self.held.clear()
            moved = time.monotonic()
            while not stopping.is_set():
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        await self.hold(record)
                while await self.step():
                    moved = time.monotonic()
                waited = time.monotonic() - moved
                limit = PATIENCE_SECONDS if self.held else IDLE_SECONDS
                if waited > limit or len(self.held) > MOST_HELD:
                    self.offsets = {}  # ask the store, and go on at the end of the topic
                    return
        finally:
            # While the broker is away this may hang, or raise what was meant for its own tasks.
            await asyncio.wait({asyncio.create_task(consumer.stop())}, timeout=10)

    async def step(self) -> bool:
        """Deal with the next events in order; False if the next one is not there."""
        self.held = {at: each for at, each in self.held.items() if at > self.position}
        ready: list[Any] = []
        while len(ready) < BATCH and (at := self.position + 1 + len(ready)) in self.held:
            ready.append(self.held[at])
        if ready:
            events = [event for each in ready if (event := await self.understood(each))]
            offsets = self.offsets | {str(each.partition): each.offset + 1 for each in ready}
            await self.apply(events, self.position + len(ready), offsets)
        return bool(ready)


def told(entry: dict[str, Any]) -> Event:
    """An event as the feed tells it."""
    names = ("position", "type", "streamId", "subjectId", "time", "data")
    return Event(*(entry[name] for name in names))


def kafka_options() -> dict[str, Any]:
    options: dict[str, Any] = {"bootstrap_servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]}
    if protocol := os.environ.get("KAFKA_SECURITY_PROTOCOL"):
        options["security_protocol"] = protocol
        if protocol.endswith("SSL"):
            options["ssl_context"] = ssl.create_default_context(
                cafile=os.environ.get("KAFKA_CA_FILE")
            )
    if "KAFKA_USERNAME" in os.environ:
        options["sasl_mechanism"] = os.environ.get("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
        options["sasl_plain_username"] = os.environ["KAFKA_USERNAME"]
        options["sasl_plain_password"] = os.environ["KAFKA_PASSWORD"]
    return options


async def main() -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    token = {"Authorization": f"Bearer {os.environ['API_TOKEN']}"}
    async with httpx.AsyncClient(headers=token, timeout=30) as http:
        while not stopping.is_set():
            try:
                database = await asyncpg.connect(
                    os.environ["DATABASE_URL"],
                    timeout=30,
                    command_timeout=60,
                    # An instance that is frozen in a transaction does not hold up the others.
                    server_settings={"idle_in_transaction_session_timeout": "30s"},
                )
                try:
                    consumer = Consumer(database, http)
                    await consumer.load()
                    while not stopping.is_set():
                        await consumer.follow(stopping)
                finally:
                    await database.close(timeout=5)
            except AWAY as error:
                # The database says where to go on, whatever has become of the last transaction.
                print(f"trying again: {error!r}", file=sys.stderr, flush=True)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), 1)


if __name__ == "__main__":
    asyncio.run(main())
