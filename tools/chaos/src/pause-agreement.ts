// What must be true once things have calmed down: records, VMMs and files tell the same story, and of snapshots
// there are those that something stands on, whole, and no others.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { everyState } from '@wrenn/cli/client';
import { askHealth } from '@wrenn/cli/mesh/readiness';
import { storeRamDir } from '@wrenn/cli/mesh/options';
import { planServices } from '@wrenn/cli/mesh/service-plan';
import { inMs } from '@wrenn/kit/deadlines';
import { messageOf } from '@wrenn/kit/errors';
import { Lanes } from '@wrenn/kit/lanes';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

import { vmmsOf } from './faults.ts';
import type { Herd } from './herd.ts';
import type { History } from './history.ts';
import { strangersOn } from './host-view.ts';

const quietMs = 1500;
// Commits stand back for all else, and what nobody needs is found at the keeper's second look.
const tidyLimitMs = 60_000;
const { RUNNING, PAUSED, DESTROYED, ERROR } = SandboxState;
const restingStates: readonly SandboxState[] = [RUNNING, PAUSED, DESTROYED, ERROR];

// Records agree with the machine, twice in a row with a look of the reconciler in between.
export async function awaitAgreement(mesh: TestMesh, history: History, limitMs: number): Promise<void> {
  const startMs = Date.now();
  let agreedSinceMs = Infinity;
  for (;;) {
    const problems = await orWhyNot(() => disagreements(mesh));
    const nowMs = Date.now();
    agreedSinceMs = problems.length > 0 ? Infinity : Math.min(agreedSinceMs, nowMs);
    if (nowMs - agreedSinceMs >= quietMs) {
      history.note(`agreed after ${agreedSinceMs - startMs} ms`);
      return;
    }
    if (agreedSinceMs === Infinity && nowMs - startMs > limitMs) {
      for (const problem of problems) history.breach(`after ${limitMs / 1000} s: ${problem}`);
      return;
    }
    await sleep(250);
  }
}

// Every snapshot is durable, whole and needed, and nothing half-done lies about.
export async function awaitTidy(mesh: TestMesh, herd: Herd, history: History): Promise<void> {
  const startMs = Date.now();
  for (;;) {
    const problems = await orWhyNot(() => untidiness(mesh, herd));
    if (problems.length === 0) break;
    if (Date.now() - startMs > tidyLimitMs) {
      for (const problem of problems) history.breach(`after ${tidyLimitMs / 1000} s: ${problem}`);
      return;
    }
    await sleep(500);
  }
  const tidyMs = Date.now() - startMs;
  const problems = await orWhyNot(() => withStore(mesh, damage));
  for (const problem of problems) history.breach(problem);
  history.note(`tidy after ${tidyMs} ms; all that was kept was read in ${Date.now() - startMs - tidyMs} ms`);
}

async function disagreements(mesh: TestMesh): Promise<string[]> {
  const services = planServices(mesh.mesh.options);
  const answers = await Promise.all(services.map((plan) => askHealth(plan)));
  const down = services.filter((_plan, index) => !answers[index]?.isServing).map(({ name }) => `${name} is down`);
  if (down.length > 0) return down;
  const problems: string[] = [];
  const running = new Set<string>();
  for await (const { id, state } of mesh.client.list(everyState)) {
    if (state === RUNNING) running.add(id);
    if (!restingStates.includes(state)) problems.push(`${id} is in state ${state}`);
  }
  const vmms = vmmsOf(mesh);
  for (const id of running) if (!vmms.has(id)) problems.push(`${id} runs by the record, and has no VMM`);
  for (const id of vmms) if (!running.has(id)) problems.push(`${id} has a VMM, and does not run by the record`);
  if (problems.length > 0) return problems;
  // Commits go on meanwhile, and have something in hand then.
  const strangers = await strangersOn(mesh, running);
  return strangers.filter((line) => !line.startsWith('the snapshot store has half'));
}

async function untidiness(mesh: TestMesh, herd: Herd): Promise<string[]> {
  const needed = new Set<string>();
  for await (const { id, snapshotId } of mesh.client.list()) if (herd.has(id)) needed.add(snapshotId);
  needed.delete('');
  const problems = await withStore(mesh, async (store) => {
    const { snapshots } = await store.listSnapshots({}, inMs(10_000));
    const there = new Set(snapshots.map(({ id }) => id));
    return [
      ...snapshots.filter(({ isDurable }) => !isDurable).map(({ id }) => `${id} is not durable`),
      ...snapshots.filter(({ problem }) => problem !== '').map(({ id, problem }) => `${id}: ${problem}`),
      ...snapshots.filter(({ id }) => !needed.has(id)).map(({ id }) => `${id} is a snapshot that nobody needs`),
      ...[...needed].filter((id) => !there.has(id)).map((id) => `${id} is needed, and is not there`),
    ];
  });
  const [data, ram] = [join(mesh.mesh.options.dataDir, 'snapshot-store'), storeRamDir(mesh.mesh.options.ramDir)];
  // What is shown to nobody is on the disk all the same. Ancestors of what runs may be.
  const empty = [join(data, 'tmp'), join(data, 'staged'), join(ram, 'staged'), join(ram, 'trash')];
  if (needed.size === 0) empty.push(join(data, 'snapshots'), join(data, 'disks'), join(ram, 'opened'));
  for (const dir of empty) for (const name of await readdir(dir)) problems.push(`${join(dir, name)} is left over`);
  return problems;
}

type Store = ReturnType<typeof storeOf>;
const storeOf = (lanes: Lanes) => lanes.client('control', SnapshotStoreService);

// Reads every byte of every snapshot.
async function damage(store: Store): Promise<string[]> {
  const { snapshots } = await store.listSnapshots({}, inMs(10_000));
  const found: string[] = [];
  for (const { id } of snapshots) {
    const { problems } = await store.verifySnapshot({ snapshotId: id }, inMs(60_000));
    found.push(...problems.map((problem) => `${id} is damaged: ${problem}`));
  }
  return found;
}

async function withStore<T>(mesh: TestMesh, work: (store: Store) => Promise<T>): Promise<T> {
  const lanes = new Lanes(mesh.mesh.addresses.snapshotStore, 'the snapshot store');
  try {
    return await work(storeOf(lanes));
  } finally {
    lanes.close();
  }
}

async function orWhyNot(ask: () => Promise<string[]>): Promise<string[]> {
  try {
    return await ask();
  } catch (error) {
    return [`the mesh cannot be asked: ${messageOf(error)}`];
  }
}
