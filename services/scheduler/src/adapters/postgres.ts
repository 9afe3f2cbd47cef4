// The pool, and the one place where PostgreSQL's failures become ours. A database that is down or does
// not answer is UNAVAILABLE within a second, and works again when it is back. One that is merely busy
// is waited for: what counts is the time since it last answered anything.
import type { Log } from '@wrenn/kit/log';
import { WrennError, messageOf } from '@wrenn/kit/errors';
import { recordFailure } from '@wrenn/kit/telemetry/failures';
import { endSpan, inSpan } from '@wrenn/kit/telemetry/span';
// Node finds no named export in this CommonJS package (vitest does): take it from the default one.
import knexPackage, { type Knex } from 'knex';
import { type Client, DatabaseError } from 'pg';

import { startStatement } from './statement-span.ts';

// For connecting, and for one statement.
const stepLimitMs = 800;
const silenceLimitMs = 950;
const maxConnections = 10;
const queueLimitMs = 30_000;
const queryCanceled = '57014';

export class Database {
  readonly #knex: Knex;
  #answeredAtMs = -Infinity;
  #lastTurn: Promise<unknown> = Promise.resolve();
  #inTurnCount = 0; // Those that wait for their turn.

  constructor(url: string, log: Log) {
    const onAnswer = () => {
      this.#answeredAtMs = performance.now();
    };
    this.#knex = openKnex({ url, log, statementLimitMs: stepLimitMs, maxConnections, onAnswer });
  }

  // Runs statements, each by itself.
  run<T>(work: (db: Knex) => Promise<T>): Promise<T> {
    return inSpan('database', {}, () => this.#unlessSilent(() => work(this.#knex)));
  }

  inTransaction<T>(work: (tx: Knex.Transaction) => Promise<T>): Promise<T> {
    return inSpan('transaction', {}, () => this.#unlessSilent((isGivenUp) => this.#transaction(work, isGivenUp)));
  }

  // One at a time, for transactions that take the same locks: those that would only wait for each other
  // hold no connection meanwhile, and their wait does not count as silence of the database.
  inTurn<T>(work: (tx: Knex.Transaction) => Promise<T>): Promise<T> {
    return inSpan('transaction', {}, () =>
      this.#unlessSilent((isGivenUp) => {
        this.#inTurnCount += 1;
        const mine = inSpan('turn', {}, () => this.#lastTurn);
        const turn = mine.then(() => {
          this.#inTurnCount -= 1;
          return this.#transaction(work, isGivenUp);
        });
        this.#lastTurn = turn.catch(() => undefined); // Its own caller hears of it.
        return turn;
      }),
    );
  }

  // What the pool's connections do, and how many calls wait for one.
  get load(): { readonly used: number; readonly free: number; readonly waiting: number } {
    const pool = (this.#knex.client as { pool?: Pool }).pool;
    return {
      used: pool?.numUsed() ?? 0,
      free: pool?.numFree() ?? 0,
      waiting: (pool?.numPendingAcquires() ?? 0) + this.#inTurnCount,
    };
  }

  close(): Promise<void> {
    return this.#knex.destroy();
  }

  async #transaction<T>(work: (tx: Knex.Transaction) => Promise<T>, isGivenUp: () => boolean): Promise<T> {
    // Its caller was told that it failed, so it must not happen after all.
    const checkGivenUp = () => {
      if (isGivenUp()) throw new WrennError('DATABASE_UNAVAILABLE', 'given up before it began');
    };
    checkGivenUp();
    return this.#knex.transaction((tx) => {
      checkGivenUp();
      return work(tx);
    });
  }

  async #unlessSilent<T>(start: (isGivenUp: () => boolean) => Promise<T>): Promise<T> {
    const startMs = performance.now();
    const { promise: silence, reject } = Promise.withResolvers<never>();
    let isGivenUp = false;
    let timer: NodeJS.Timeout | undefined;
    const watch = () => {
      const remainingMs = Math.max(startMs, this.#answeredAtMs) + silenceLimitMs - performance.now();
      // An answer that arrived while this process was busy is read before the verdict.
      if (remainingMs > 0) timer = setTimeout(() => setImmediate(watch), remainingMs);
      else {
        isGivenUp = true;
        reject(new WrennError('DATABASE_UNAVAILABLE', 'the database does not answer'));
      }
    };
    watch();
    try {
      return await Promise.race([start(() => isGivenUp), silence]);
    } catch (error) {
      throw toWrennError(error);
    } finally {
      clearTimeout(timer);
    }
  }
}

// Of knex's pool, which it does not declare.
interface Pool {
  numUsed(): number;
  numFree(): number;
  numPendingAcquires(): number;
}

export interface KnexOptions {
  readonly url: string;
  readonly log: Log;
  readonly statementLimitMs: number;
  readonly maxConnections: number;
  // Called whenever the server has answered, be it with an error.
  readonly onAnswer?: () => void;
}

export function openKnex({ url, log, statementLimitMs, maxConnections: max, onAnswer }: KnexOptions): Knex {
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
    acquireConnectionTimeout: queueLimitMs,
    pool: {
      min: 0,
      max,
      afterCreate: (connection: Client, done: (error: Error | null) => void) => {
        onAnswer?.();
        guard(connection, statementLimitMs + 50, onAnswer);
        done(null);
      },
    },
    log: knexLog(log),
  });
}

type Query = (config: unknown, done: (error: Error | null, result?: unknown) => void) => void;

// PostgreSQL itself ends a statement that takes too long. One that never answers, because its machine or
// process stands still, must not keep its connection: cut, the query fails and the pool drops it.
function guard(connection: Client, limitMs: number, onAnswer: KnexOptions['onAnswer']): void {
  const query = connection.query.bind(connection) as Query;
  const guarded: Query = (config, done) => {
    const span = startStatement(config);
    let isDone = false;
    const cut = () => isDone || connection.connection.stream.destroy();
    const timer = setTimeout(() => setImmediate(cut), limitMs);
    query(config, (error, result) => {
      isDone = true;
      clearTimeout(timer);
      if (error) recordFailure(span, error);
      endSpan(span);
      // A statement that was ended for taking too long shows no more life than one that hangs.
      if (!error || (error instanceof DatabaseError && error.code !== queryCanceled)) onAnswer?.();
      done(error, result);
    });
  };
  Object.assign(connection, { query: guarded });
}

// SQLSTATE classes and codes that mean: not now. 42P01 is a database that is not migrated yet.
const unavailableStates = /^(08|28|53|57|58|3D|40|55P03|25P03|42P01|XX)/;
const unavailableErrnos =
  /^(ECONN|ENOENT|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|EACCES|EMFILE|ENFILE|EAGAIN)/;
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
