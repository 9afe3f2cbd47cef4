// Many random operations at once, on a host that fails and loses answers, with a scheduler that restarts in
// between: afterwards database and host agree, no sandbox is lost, and no snapshot is left or missing.
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { type Reason, WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { VmState } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';

import { type SandboxState as State, canMove } from '../src/domain/sandbox-state.ts';
import { type DatabaseServer, databaseServers, execute } from './support/database-servers.ts';
import type { TestHost } from './support/test-host.ts';
import { type TestMesh, startTestMesh } from './support/test-mesh.ts';

vi.setConfig({ testTimeout: 120_000 });

const rounds = 18;
const perRound = 6;
// Whatever goes wrong, a caller is told one of these.
const expected: readonly Reason[] = [
  ...(['STATE_CONFLICT', 'SANDBOX_NOT_RUNNING', 'SANDBOX_NOT_FOUND', 'SNAPSHOT_NOT_FOUND', 'SNAPSHOT_EXISTS'] as const),
  ...(['TEMPLATE_NOT_FOUND', 'SNAPSHOT_IN_USE', 'NO_HOST_LEFT', 'SERVICE_UNAVAILABLE', 'DEADLINE_EXCEEDED'] as const),
  ...(['AGENT_UNREACHABLE', 'GUEST_NOT_READY', 'DISK_FULL', 'CANCELLED', 'VM_EXISTS'] as const),
];

let database: DatabaseServer;
beforeAll(async () => {
  database = (await databaseServers[0]?.startServer()) as DatabaseServer;
});
afterAll(() => database.close());

// A generator of its own, so that a run can be repeated by its seed.
function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function makeFail(host: TestHost, random: (below: number) => number): void {
  const maybe = (reason: Reason) => async () => {
    await sleep(random(15));
    if (random(5) === 0) throw new WrennError(reason, 'it fails now and then');
  };
  host.whileCreating = maybe('GUEST_NOT_READY');
  host.whileFreezing = maybe('AGENT_UNREACHABLE');
  host.afterFreezing = maybe('SERVICE_UNAVAILABLE');
  host.whileCommitting = maybe('DISK_FULL');
  host.whileDestroying = maybe('SERVICE_UNAVAILABLE');
}

function makeSound(host: TestHost): void {
  const sound = async () => {};
  host.whileCreating = host.whileFreezing = host.afterFreezing = host.whileCommitting = host.whileDestroying = sound;
}

async function anyOperation(mesh: TestMesh, random: (below: number) => number): Promise<unknown> {
  const { sandboxes: all } = await mesh.sandboxes.list({}, inMs(10_000));
  const sandboxId = all[random(Math.max(1, all.length))]?.id;
  const call = inMs(8000);
  const name = `snap-${random(4)}`;
  if (sandboxId === undefined) return mesh.create();
  const operations = [
    () => mesh.sandboxes.create({ template: random(3) === 0 ? name : 'debian', autoResume: true }, call),
    () => mesh.sandboxes.pause({ sandboxId, waitDurable: random(3) === 0 }, call),
    () => mesh.sandboxes.pause({ sandboxId }, call),
    () => mesh.sandboxes.resume({ sandboxId }, call),
    () => mesh.sandboxes.resume({ sandboxId }, call),
    () => mesh.sandboxes.fork({ sandboxId, count: 1 + random(2) }, call),
    () => mesh.inside.resolveSandbox({ sandboxId }, call),
    () => mesh.snapshots.create({ sandboxId, name }, call),
    () => mesh.snapshots.delete({ name }, call),
    () => (random(2) === 0 ? mesh.sandboxes.destroy({ sandboxId }, call) : mesh.sandboxes.ping({ sandboxId }, call)),
  ];
  return operations[random(operations.length)]?.();
}

const transient = [
  ...[SandboxState.PENDING, SandboxState.STARTING, SandboxState.PAUSING, SandboxState.RESUMING],
  SandboxState.DESTROYING,
];

async function untilQuiet(mesh: TestMesh): Promise<void> {
  await eventually(
    'nothing is in between',
    async () => (await mesh.sandboxes.list({ states: transient }, inMs(10_000))).sandboxes.length === 0,
    30_000,
  );
}

test('keeps database and host in agreement, whatever fails, and loses no sandbox', async () => {
  const seed = Number(process.env['WRENN_TEST_SEED'] ?? randomInt(2 ** 31));
  const random = randomOf(seed);
  await using mesh = await startTestMesh(database);
  const host = await mesh.addHost('h1', { slotCount: 40, cpuCount: 40 });
  await mesh.create({ autoResume: true });
  makeFail(host, random);
  const outcomes = new Map<string, number>();
  for (let round = 0; round < rounds; round++) {
    const results = Promise.allSettled(Array.from({ length: perRound }, () => anyOperation(mesh, random)));
    if (round % 6 === 5) {
      await sleep(random(60));
      await mesh.stop();
      await mesh.start();
      await mesh.advance(0);
    }
    for (const result of await results) {
      const reason = result.status === 'fulfilled' ? 'OK' : String((result.reason as WrennError).reason);
      outcomes.set(reason, (outcomes.get(reason) ?? 0) + 1);
      if (reason !== 'OK') expect(expected, `seed ${seed}: ${String(result.status)}`).toContain(reason);
    }
    await mesh.advance(0);
  }
  makeSound(host);
  await untilQuiet(mesh);
  // Attempts that nobody knows the end of are given up after a while.
  await mesh.advance(140_000);
  await mesh.advance(0);
  const what = `seed ${seed}, outcomes ${JSON.stringify(Object.fromEntries(outcomes))}`;

  if (process.env['WRENN_TEST_SEED']) process.stdout.write(`${what}\n`);
  const { sandboxes } = await mesh.sandboxes.list({ pageSize: 1000 }, inMs(10_000));
  const idsIn = (state: SandboxState) => sandboxes.filter((each) => each.state === state).map(({ id }) => id);
  const running = idsIn(SandboxState.RUNNING);
  const paused = idsIn(SandboxState.PAUSED);
  expect(running.length + paused.length, what).toBe(sandboxes.length);
  await eventually(`the host runs what the database says, no more (${what})`, () => {
    const vms = [...host.vms].filter(([, { state }]) => state === VmState.RUNNING).map(([id]) => id);
    return vms.length === host.vms.size && vms.toSorted().join() === running.toSorted().join();
  });
  await eventually(`each snapshot is needed, and those that are needed are there (${what})`, async () => {
    const recorded = (await execute(mesh.databaseUrl, 'select id from snapshots order by id')).flat();
    const needed = await execute(
      mesh.databaseUrl,
      `select id from (select snapshot_id as id from sandboxes union select snapshot_id from snapshot_names) n
       where id is not null order by id`,
    );
    const there = [...host.snapshots.keys()].toSorted();
    return there.join() === needed.flat().join() && recorded.join() === there.join();
  });

  // One that ever ran is never lost: what is over was destroyed on request.
  const lost = await execute(
    mesh.databaseUrl,
    `select id, error_reason, error_message from sandboxes where state = 'error' and guest_address <> ''`,
  );
  expect(lost, what).toEqual([]);

  const events = (await execute(
    mesh.databaseUrl,
    `select sandbox_id, from_state, to_state from sandbox_events order by sequence`,
  )) as [string, State | null, State][];
  const stateOf = new Map<string, State>();
  for (const [id, from, to] of events) {
    expect(from ?? undefined, `${what}: events of ${id} follow each other`).toBe(stateOf.get(id));
    if (from) expect(canMove(from, to), `${what}: ${from} > ${to}`).toBe(true);
    stateOf.set(id, to);
  }

  // Each of them can still be paused and resumed.
  for (const id of [...running, ...paused].slice(0, 12)) {
    await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, inMs(10_000));
    const { sandbox } = await mesh.sandboxes.resume({ sandboxId: id }, inMs(10_000));
    expect(sandbox?.state, `${what}: ${id}`).toBe(SandboxState.RUNNING);
  }
});
