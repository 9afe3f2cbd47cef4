// What snapshots are for: a small difference stored as a small file, and many sandboxes from one that is ready.
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import { VmRuntimeService } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';

import { execTrue, timed } from './exec.ts';
import { type Measurement, median, row } from './measurement.ts';

const template = 'minimal';
const limitMs = 120_000;
const touchedBytes = 10_000_000;
const diffRounds = 4; // Twice as many generations: fewer than those after which a chain becomes one Full again.
const children = 8;
const forkRounds = 3;
const createRounds = 5;

export const snapshotDiff: Measurement = {
  ids: ['snapshots.diff_ratio', 'snapshots.diff_touched_bytes', 'snapshots.diff_idle_bytes'],
  async run(mesh, tell) {
    const guest = await mesh.create(template, { memoryBytes: 2n ** 30n });
    await guest.sh(`head -c ${touchedBytes} /dev/urandom > /dev/shm/touched`);
    await guest.pause(true);
    const stored = { idle: [] as number[], touched: [] as number[] };
    for (let round = 1; round <= diffRounds; round++) {
      stored.idle.push(await storedAfter(mesh, guest, 'true'));
      const script = `dd if=/dev/urandom of=/dev/shm/touched bs=10000 count=${touchedBytes / 10_000} conv=notrunc`;
      stored.touched.push(await storedAfter(mesh, guest, script));
      tell(`round ${round} of ${diffRounds}: idle ${stored.idle.at(-1)} bytes, touched ${stored.touched.at(-1)} bytes`);
    }
    await guest.destroy();
    const touched = median(stored.touched);
    return [
      row('snapshots.diff_ratio', touched / touchedBytes, 'x touched', { relation: '<=', value: 1.3 }),
      row('snapshots.diff_touched_bytes', touched, 'bytes'),
      row('snapshots.diff_idle_bytes', median(stored.idle), 'bytes'),
    ];
  },
};

export const snapshotFork: Measurement = {
  ids: ['snapshots.fork_8_ms', 'snapshots.fork_8_child_ms', 'snapshots.create_8_ms', 'snapshots.fork_8_speedup'],
  async run(mesh, tell) {
    const source = await mesh.create(template);
    const times = { fork: [] as number[], create: [] as number[] };
    for (let round = 0; round <= forkRounds; round++) {
      const forkMs = await untilAllAnswer(mesh, () => source.fork(children));
      const boot = () => Promise.all(Array.from({ length: children }, () => mesh.create(template)));
      const createMs = round === forkRounds ? await untilAllAnswer(mesh, boot) : 0;
      tell(`round ${round} of ${forkRounds}: fork ${forkMs.toFixed(0)} ms, create ${createMs.toFixed(0)} ms`);
      if (round === 0) continue; // The first fork is of a booted VM: all of its memory is its own.
      times.fork.push(forkMs);
      if (createMs > 0) times.create.push(createMs);
    }
    await source.destroy();
    const [forkMs, createMs] = [median(times.fork), median(times.create)];
    return [
      row('snapshots.fork_8_ms', forkMs, 'ms'),
      row('snapshots.fork_8_child_ms', forkMs / children, 'ms'),
      row('snapshots.create_8_ms', createMs, 'ms'),
      row('snapshots.fork_8_speedup', createMs / forkMs, 'x'),
    ];
  },
};

export const snapshotTemplate: Measurement = {
  ids: ['snapshots.create_speedup', 'snapshots.create_from_snapshot_ms', 'snapshots.create_by_boot_ms'],
  async run(mesh, tell) {
    const { snapshots } = mesh.client;
    const name = 'bench-template';
    const source = await mesh.create(template);
    await source.sh('true');
    await snapshots.create({ sandboxId: source.id, name }, inMs(limitMs));
    await source.destroy();
    const times = { boot: [] as number[], snapshot: [] as number[] };
    for (let round = 0; round <= createRounds; round++) {
      const [bootMs, snapshotMs] = [await createMs(mesh, template), await createMs(mesh, name)];
      tell(`round ${round} of ${createRounds}: boot ${bootMs.toFixed(0)} ms, snapshot ${snapshotMs.toFixed(0)} ms`);
      if (round === 0) continue; // Fills caches for both.
      times.boot.push(bootMs);
      times.snapshot.push(snapshotMs);
    }
    await snapshots.delete({ name }, inMs(limitMs));
    const [bootMs, snapshotMs] = [median(times.boot), median(times.snapshot)];
    return [
      row('snapshots.create_speedup', bootMs / snapshotMs, 'x', { relation: '>=', value: 5 }),
      row('snapshots.create_from_snapshot_ms', snapshotMs, 'ms'),
      row('snapshots.create_by_boot_ms', bootMs, 'ms'),
    ];
  },
};

// Bytes of memory that a pause stores after a resume and a command.
async function storedAfter(mesh: TestMesh, guest: Guest, script: string): Promise<number> {
  await guest.resume();
  await guest.sh(script);
  await guest.pause(true);
  const lanes = new Lanes(mesh.mesh.addresses.vmRuntime, 'vm-runtime');
  try {
    const { snapshotId } = await guest.get();
    const host = lanes.client('control', VmRuntimeService);
    const { snapshot } = await host.getSnapshot({ snapshotId }, inMs(limitMs));
    const own = snapshot?.builds[0];
    if (!own || snapshot.generation === 0) throw new Error(`${snapshotId} stores no difference`);
    return Number(own.memoryBytes);
  } finally {
    lanes.close();
  }
}

async function untilAllAnswer(mesh: TestMesh, make: () => Promise<Guest[]>): Promise<number> {
  let guests: Guest[] = [];
  const ms = await timed(async () => {
    guests = await make();
    await Promise.all(guests.map(({ id }) => execTrue(mesh, id)));
  });
  await Promise.all(guests.map((guest) => guest.destroy()));
  return ms;
}

async function createMs(mesh: TestMesh, name: string): Promise<number> {
  let guest: Guest | undefined;
  const ms = await timed(async () => (guest = await mesh.create(name)));
  await guest?.destroy();
  return ms;
}
