// The pool, and the one place where PostgreSQL's failures become ours. Nothing waits longer than a
// second: a database that is down or does not answer is UNAVAILABLE at once, and back when it is back.
import type { Log } from '@wrenn/kit/log';
import { WrennError, messageOf } from '@wrenn/kit/errors';
import knexPackage, { type Knex } from 'knex'; // CommonJS without named exports.
import type { Client } from 'pg';

// For connecting, for a free connection, for one statement.
const stepLimitMs = 800;
// For all of it together.
const workLimitMs = 950;
const maxConnections = 16;

export class Database {
  readonly #knex: Knex;

  constructor(url: string, log: Log) {
    this.#knex = openKnex(url, log, stepLimitMs, maxConnections);
  }

  // Runs statements, each by itself.
  run<T>(work: (db: Knex) => Promise<T>): Promise<T> {
    return inTime(work(this.#knex), workLimitMs);
  }

  inTransaction<T>(work: (tx: Knex.Transaction) => Promise<T>): Promise<T> {
    return inTime(this.#knex.transaction(work), workLimitMs);
  }

  close(): Promise<void> {
    return this.#knex.destroy();
  }
}

export function openKnex(url: string, log: Log, statementLimitMs: number, max: number): Knex {
  return knexPackage.knex({
    client: 'pg',
    // Saves a query on each new connection; nothing we do depends on it.
    version: '15',
    connection: {
      connectionString: url,
      connectionTimeoutMillis: stepLimitMs,
      statement_timeout: statementLimitMs,
      idle_in_transaction_session_timeout: 5 * statementLimitMs,
      keepAlive: true,
      application_name: 'wrenn-scheduler',
    } as Knex.PgConnectionConfig,
    acquireConnectionTimeout: stepLimitMs,
    pool: {
      min: 0,
      max,
      afterCreate: (connection: Client, done: (error: Error | null) => void) => {
        cutWhenSilent(connection, statementLimitMs + 50);
        done(null);
      },
    },
    log: knexLog(log),
  });
}

type Query = (config: unknown, done: (error: Error | null, result?: unknown) => void) => void;

// PostgreSQL itself ends a statement that takes too long. One that never answers, because its machine or
// process stands still, must not keep its connection: cut, the query fails and the pool drops it.
function cutWhenSilent(connection: Client, limitMs: number): void {
  const query = connection.query.bind(connection) as Query;
  const guarded: Query = (config, done) => {
    let isDone = false;
    const cut = () => isDone || connection.connection.stream.destroy();
    // An answer that arrived while this process was busy is read before the cut.
    const timer = setTimeout(() => setImmediate(cut), limitMs);
    query(config, (error, result) => {
      isDone = true;
      clearTimeout(timer);
      done(error, result);
    });
  };
  Object.assign(connection, { query: guarded });
}

// The work itself is bounded by its own limits and goes on; its caller is not kept waiting.
async function inTime<T>(work: Promise<T>, limitMs: number): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    setImmediate(() => reject(new WrennError('DATABASE_UNAVAILABLE', 'the database did not answer in time')));
  }, limitMs);
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    throw toWrennError(error);
  } finally {
    clearTimeout(timer);
  }
}

// SQLSTATE classes and codes that mean: not now. 42P01 is a database that is not migrated yet.
const unavailableStates = /^(08|28|53|57|58|3D|40|55P03|25P03|42P01|XX)/;
const unavailableErrnos = /^(ECONN|ENOENT|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|EACCES)/;
const unavailableTexts = /Connection terminated|not queryable|timeout expired|Timeout acquiring/;

export function toWrennError(error: unknown): unknown {
  if (error instanceof WrennError || !(error instanceof Error)) return error;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const isUnavailable =
    unavailableStates.test(code) || unavailableErrnos.test(code) || unavailableTexts.test(messageOf(error));
  if (!isUnavailable) return error;
  return new WrennError('DATABASE_UNAVAILABLE', 'the database cannot be used right now', { cause: error });
}

// Each failure reaches us as an error too, so knex's own lines are of interest only when looking closely.
function knexLog(log: Log): Knex.Logger {
  const line = (message: unknown) => log.debug({ detail: String(message).slice(0, 500) }, 'knex');
  return { warn: line, error: line, deprecate: line, debug: line };
}
