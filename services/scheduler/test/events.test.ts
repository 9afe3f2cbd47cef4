import { setImmediate as nextTurn } from 'node:timers/promises';

import { Lanes } from '@wrenn/kit/lanes';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { type SandboxEvent, SandboxService, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers, execute } from './support/database-servers.ts';
import { type TestMesh, present, reasonOf, soon, startTestMesh } from './support/test-mesh.ts';

interface Watcher extends AsyncDisposable {
  readonly events: SandboxEvent[];
  readonly positioned: Promise<void>;
  readonly ended: Promise<unknown>;
}

// Watches over a connection of its own.
function watch(mesh: TestMesh, request: object, perEvent?: () => Promise<void>): Watcher {
  const lanes = new Lanes(mesh.address, 'scheduler');
  const events: SandboxEvent[] = [];
  const abort = new AbortController();
  const { promise: positioned, resolve } = Promise.withResolvers<void>();
  const run = async () => {
    const stream = lanes.client('control', SandboxService).watchEvents(request, {
      signal: abort.signal,
      onHeader: () => resolve(),
    });
    for await (const { event } of stream) {
      events.push(present(event));
      await perEvent?.();
    }
  };
  const ended = run().catch((error: unknown) => error);
  return {
    events,
    positioned,
    ended,
    async [Symbol.asyncDispose]() {
      abort.abort();
      await ended;
      lanes.close();
    },
  };
}

const sequences = (events: readonly SandboxEvent[]) => events.map(({ sequence }) => sequence);

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('shows each watcher each event once and in order while 50 writers commit at once', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 50 });
    await using first = watch(mesh, {});
    await using slow = watch(mesh, {}, () => nextTurn());
    const lives = Array.from({ length: 50 }, async () => {
      const { id } = await mesh.create();
      await mesh.sandboxes.destroy({ sandboxId: id }, soon());
      return id;
    });
    const ids = await Promise.all(lives);
    await eventually('all were seen', () => first.events.length >= 250 && slow.events.length >= 250, 20_000);
    await using late = watch(mesh, {});
    await eventually('all were read again', () => late.events.length >= 250);

    const rows = await execute(mesh.databaseUrl, 'select sequence from sandbox_events order by sequence');
    const stored = rows.flat().map((sequence) => BigInt(String(sequence)));
    expect(stored).toHaveLength(250);
    for (const watcher of [first, slow, late]) expect(sequences(watcher.events)).toEqual(stored);
    for (const id of ids) {
      const states = first.events.filter(({ sandboxId }) => sandboxId === id).map(({ toState }) => toState);
      const { PENDING, STARTING, RUNNING, DESTROYING, DESTROYED } = SandboxState;
      expect(states).toEqual([PENDING, STARTING, RUNNING, DESTROYING, DESTROYED]);
    }
  });

  test('starts behind the given sequence, or with what happens from now on', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const before = await mesh.create();
    await using all = watch(mesh, {});
    await eventually('the past was seen', () => all.events.length === 3);
    const afterSequence = present(all.events[1]).sequence;
    await using resumed = watch(mesh, { afterSequence });
    await using live = watch(mesh, { liveOnly: true });
    await live.positioned;
    const after = await mesh.create();
    await eventually('the future was seen', () => live.events.length === 3 && resumed.events.length === 4);
    expect(live.events.map(({ sandboxId }) => sandboxId)).toEqual([after.id, after.id, after.id]);
    expect(resumed.events[0]?.sandboxId).toBe(before.id);
    expect(resumed.events.every(({ sequence }) => sequence > afterSequence)).toBe(true);
    const both = watch(mesh, { liveOnly: true, afterSequence: 1n });
    expect(await both.ended).toMatchObject({ reason: 'INVALID_FIELD' });
    await both[Symbol.asyncDispose]();
  });

  test('shows one sandbox’s events only, with where it came from and why', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    await using watcher = watch(mesh, { sandboxId: id });
    await mesh.create();
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    await eventually('its end was seen', () => watcher.events.at(-1)?.toState === SandboxState.DESTROYED);
    expect(watcher.events.map(({ fromState, reason }) => [fromState, reason])).toEqual([
      [SandboxState.UNSPECIFIED, 'REQUESTED'],
      [SandboxState.PENDING, 'PLACED'],
      [SandboxState.STARTING, 'AGENT_READY'],
      [SandboxState.RUNNING, 'REQUESTED'],
      [SandboxState.DESTROYING, 'RELEASED'],
    ]);
  });

  test('loses nothing when its listening connection is cut', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    await using watcher = watch(mesh, { liveOnly: true });
    await watcher.positioned;
    const cut = await execute(
      mesh.databaseUrl,
      `select pg_terminate_backend(pid) from pg_stat_activity
       where application_name = 'wrenn-scheduler-events' and datname = current_database()`,
    );
    expect(cut).toEqual([[true]]);
    await mesh.create();
    await eventually('all three were seen', () => watcher.events.length === 3);
  });

  test('tells watchers when it stops', async () => {
    await using mesh = await startTestMesh(database);
    await using watcher = watch(mesh, { liveOnly: true });
    await watcher.positioned;
    await mesh.stop();
    expect(await watcher.ended).toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
    await mesh.start();
    expect(await reasonOf(mesh.create())).toBe('NO_HOST_LEFT');
  });
});
