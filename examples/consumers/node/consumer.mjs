// A consumer of nbledger's events whose effects in PostgreSQL happen exactly once (Node).
//
// Positions of events have no gaps. So one row says how far this consumer is, and moves in the
// transaction that has the effects. README.md beside this folder says why, and lists the settings.

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import { Consumer, stringDeserializer } from '@platformatic/kafka'
import pg from 'pg'

const {
  KAFKA_TOPIC: TOPIC = 'nbledger.events',
  CONSUMER_NAME: NAME = 'example',
  START_AFTER = '0',
  PATIENCE_SECONDS = '10',
  IDLE_SECONDS = '60',
  API_TOKEN: TOKEN,
  ...environment
} = process.env
const PROJECT = environment.PROJECT_URL.replace(/\/$/, '') // https://host/api/{tenant}/{project}
const SOURCE = `/api/${PROJECT.split('/').slice(-2).join('/')}/` // the sources of its events begin so
const BATCH = 500
const MOST_HELD = 20_000

const ENDS = {
  'execution.completed.v1': 'Completed',
  'execution.failed.v1': 'Failed',
  'execution.timed-out.v1': 'TimedOut',
  'execution.kernel-died.v1': 'KernelDied',
  'execution.cancelled.v1': 'Cancelled',
}

const stopping = new AbortController()
const say = (text) => process.stderr.write(`${text}\n`)

/** A record that no repetition makes good. */
class PoisonError extends Error {}

/** Your effects, in the transaction of the position. This is the part to replace. */
async function handle(database, event) {
  if (event.type === 'notebook.deleted.v1') {
    // The tombstone of a notebook and its executions.
    await database.query('DELETE FROM run WHERE notebook_id = $1', [event.subject])
  } else if (event.type === 'execution.requested.v1') {
    await database.query(
      "INSERT INTO run (execution_id, notebook_id, status) VALUES ($1, $2, 'Requested')",
      [event.stream, event.subject],
    )
  } else if (event.type === 'execution.cell-executed.v1') {
    if (event.data === null) return // erased: of what was in it nothing is left
    if (typeof event.data.duration !== 'number') throw new PoisonError('no duration')
    await database.query(
      'UPDATE run SET cells = cells + 1, cell_seconds = cell_seconds + $2 WHERE execution_id = $1',
      [event.stream, event.data.duration],
    )
  } else if (event.type in ENDS) {
    const status = ENDS[event.type]
    await database.query('UPDATE run SET status = $2 WHERE execution_id = $1', [event.stream, status])
    await database.query(
      'INSERT INTO run_count VALUES ($1, 1) ON CONFLICT (status) DO UPDATE SET runs = run_count.runs + 1',
      [status],
    )
  } else {
    return // a type, or a version of one, that this program does not know
  }
  await database.query('INSERT INTO run_log VALUES ($1, $2, $3, $4)', [
    event.position, event.type, event.stream, event.time,
  ])
}

class Follower {
  position = 0
  offsets = {}
  held = new Map() // records whose turn has not come, by position

  constructor(database) {
    this.database = database
  }

  async load() {
    await this.database.query(
      'INSERT INTO consumer (name, position) VALUES ($1, $2) ON CONFLICT DO NOTHING',
      [NAME, Number(START_AFTER)],
    )
    const found = await this.database.query(
      'SELECT position, offsets FROM consumer WHERE name = $1', [NAME],
    )
    this.position = Number(found.rows[0].position)
    this.offsets = found.rows[0].offsets
  }

  /** The effects of these events, and the position, in one transaction. */
  async apply(events, through, offsets) {
    await this.database.query('BEGIN')
    // First of all, so that another instance waits here, and then finds itself overtaken.
    const moved = await this.database.query(
      'UPDATE consumer SET position = $3, offsets = $4 WHERE name = $1 AND position = $2',
      [NAME, this.position, through, JSON.stringify(offsets)],
    )
    if (moved.rowCount === 1) {
      for (const event of events) await this.dealWith(event)
    }
    await this.database.query('COMMIT')
    if (moved.rowCount === 1) {
      this.position = through
      this.offsets = offsets
    } else {
      await this.load()
    }
  }

  async dealWith(event) {
    await this.database.query('SAVEPOINT event') // one bad event undoes itself alone
    try {
      if (event.fault) throw new PoisonError(event.fault)
      await handle(this.database, event)
    } catch (error) {
      // Classes 22 and 23 of SQLSTATE: the data is at fault, and not the database.
      const poison = error instanceof PoisonError || error instanceof TypeError
      if (!poison && !/^2[23]/.test(error.code ?? '')) throw error
      await this.database.query('ROLLBACK TO SAVEPOINT event')
      await this.bury(`position ${event.position}`, error)
    }
  }

  async bury(place, error) {
    say(`cannot deal with ${place}: ${error}`)
    await this.database.query(
      'INSERT INTO dead_letter (consumer, place, fault) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
      [NAME, place, String(error)],
    )
  }

  /** Take from the store what the topic does not have, or no longer. */
  async catchUp() {
    let page
    do {
      page = await feed(this.position, BATCH)
      if (page.position > this.position) {
        await this.apply(page.events.map(told), page.position, this.offsets)
      }
    } while (page.next !== null)
  }

  /**
   * Keep a record until its turn; one that has come before is dropped, marked or not.
   *
   * `ce_replay` marks what is told once more on request. The position says all that matters.
   */
  async hold(record) {
    const position = Number(record.headers.get('ce_position') ?? NaN)
    if (!Number.isSafeInteger(position)) {
      // No event of nbledger. Positions do not depend on it.
      const place = `${TOPIC} ${record.partition} ${record.offset} ${record.timestamp}`
      await this.bury(place, new PoisonError('no ce_position'))
    } else if (position > this.position) {
      this.held.set(position, record)
    }
  }

  /** Deal with the next events in order; false if the next one is not there. */
  async step() {
    for (const at of this.held.keys()) if (at <= this.position) this.held.delete(at)
    const ready = []
    while (ready.length < BATCH && this.held.has(this.position + 1 + ready.length)) {
      ready.push(this.held.get(this.position + 1 + ready.length))
    }
    if (ready.length > 0) {
      const events = []
      const offsets = { ...this.offsets }
      for (const record of ready) {
        const event = await understood(record)
        if (event !== null) events.push(event)
        offsets[record.partition] = Number(record.offset) + 1
      }
      await this.apply(events, this.position + ready.length, offsets)
    }
    return ready.length > 0
  }

  /** Read the topic until told to stop, or until something is missing on it. */
  async follow() {
    const consumer = new Consumer({
      ...kafkaOptions(),
      clientId: NAME,
      // This client reads in a group alone. One for each process: all partitions are ours, and
      // nothing is rebalanced. On Apache Kafka 6 seconds are the least that a session may have.
      groupId: `${NAME}.${randomUUID()}`,
      sessionTimeout: 6000,
      heartbeatInterval: 1000,
      autocommit: false,
      deserializers: { headerKey: stringDeserializer, headerValue: stringDeserializer },
    })
    const failures = []
    consumer.on('error', (error) => failures.push(error))
    try {
      const metadata = await consumer.metadata({ topics: [TOPIC] })
      const count = metadata.topics.get(TOPIC).partitionsCount
      if (Object.keys(this.offsets).length === 0) {
        // The end of the topic first, and the store then: so nothing is between them.
        const ends = await consumer.listOffsets({ topics: [TOPIC], timestamp: -1n })
        this.offsets = { ...ends.get(TOPIC).map(Number) }
        await this.catchUp()
      }
      const offsets = Array.from({ length: count }, (_, partition) => ({
        topic: TOPIC, partition, offset: BigInt(this.offsets[partition] ?? 0),
      }))
      const stream = await consumer.consume({
        topics: [TOPIC], mode: 'manual', fallbackMode: 'earliest', offsets, maxWaitTime: 500,
      })
      say(`at work after position ${this.position}`)
      stream.on('error', (error) => failures.push(error))
      await this.read(stream, failures)
    } finally {
      await Promise.race([consumer.close(true), sleep(5000)])
    }
  }

  async read(stream, failures) {
    stream.on('readable', () => {}) // makes it fetch; it is read below
    this.held.clear()
    let moved = performance.now()
    while (!stopping.signal.aborted) {
      let record
      let count = 0
      while (count++ < BATCH && (record = stream.read()) !== null) await this.hold(record)
      while (await this.step()) moved = performance.now()
      if (failures.length > 0) throw failures[0]
      const waited = (performance.now() - moved) / 1000
      const limit = Number(this.held.size > 0 ? PATIENCE_SECONDS : IDLE_SECONDS)
      if (waited > limit || this.held.size > MOST_HELD) {
        this.offsets = {} // ask the store, and go on at the end of the topic
        return
      }
      if (record === null) {
        const signal = AbortSignal.any([AbortSignal.timeout(500), stopping.signal])
        await once(stream, 'readable', { signal }).catch(() => {})
      }
    }
  }
}

async function feed(after, limit) {
  const answer = await fetch(`${PROJECT}/events?after=${after}&limit=${limit}`, {
    headers: { Authorization: `Bearer ${TOKEN}` },
    signal: AbortSignal.timeout(30_000),
  })
  if (!answer.ok) throw new Error(`the feed answers ${answer.status}`)
  return answer.json()
}

/** The event of a record; null if it is of another project. */
async function understood(record) {
  const header = (name) => record.headers.get(`ce_${name}`)
  if (!header('source').startsWith(SOURCE)) return null
  const event = {
    position: Number(header('position')),
    type: header('type').replace(/^nbledger\./, ''), // the number at its end is the version of the data
    stream: header('subject'),
    subject: header('notebookid') ?? header('subject'), // the notebook, of an execution, too
    time: header('time'),
    data: null, // erased
  }
  if (header('dataref')) {
    // Too large for a message; the feed has it.
    const page = await feed(event.position - 1, 1)
    event.data = page.events.find((each) => each.position === event.position)?.data ?? null
  } else if (record.value?.length && header('erased') !== 'true') {
    try {
      event.data = JSON.parse(record.value.toString())
    } catch (error) {
      event.fault = `no JSON: ${error.message}`
    }
  }
  return event
}

/** An event as the feed tells it. */
function told({ position, type, streamId, subjectId, time, data }) {
  return { position, type, stream: streamId, subject: subjectId, time, data }
}

function kafkaOptions() {
  const options = { bootstrapBrokers: environment.KAFKA_BOOTSTRAP_SERVERS.split(',') }
  if (environment.KAFKA_SECURITY_PROTOCOL?.endsWith('SSL')) {
    const file = environment.KAFKA_CA_FILE
    options.tls = file ? { ca: readFileSync(file) } : {}
  }
  if (environment.KAFKA_USERNAME) {
    options.sasl = {
      mechanism: environment.KAFKA_SASL_MECHANISM ?? 'SCRAM-SHA-512',
      username: environment.KAFKA_USERNAME,
      password: environment.KAFKA_PASSWORD,
    }
  }
  return options
}

for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => stopping.abort())
while (!stopping.signal.aborted) {
  const database = new pg.Client({
    connectionString: environment.DATABASE_URL,
    connectionTimeoutMillis: 30_000,
    query_timeout: 60_000,
    // An instance that is frozen in a transaction does not hold up the others.
    idle_in_transaction_session_timeout: 30_000,
  })
  database.on('error', () => {}) // the next query says so, too
  try {
    await database.connect()
    const follower = new Follower(database)
    await follower.load()
    while (!stopping.signal.aborted) await follower.follow()
  } catch (error) {
    // The database says where to go on, whatever has become of the last transaction.
    say(`trying again: ${error.stack}`)
    await sleep(1000, undefined, { signal: stopping.signal }).catch(() => {})
  } finally {
    await Promise.race([database.end().catch(() => {}), sleep(5000)])
  }
}
process.exit(0)
