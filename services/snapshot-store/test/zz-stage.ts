import { spawn } from 'node:child_process';
import { mkdirSync, openSync, ftruncateSync, writeSync, closeSync, writeFileSync, rmSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import { newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';
import { machine } from './snapshot-fixture.ts';
import { writeSource } from './store-fixture.ts';
const MiB = 1 << 20;
const data = mkdtempSync('/var/tmp/hf-data-');
const ram = mkdtempSync('/dev/shm/hf-ram-');
const sock = join(ram, 's.sock');
const child = spawn(
  process.execPath,
  [
    ...(process.argv[3] ? ['--cpu-prof', '--cpu-prof-dir=/tmp/hf/prof'] : []),
    join(import.meta.dirname, '../src/main.ts'),
  ],
  {
    env: {
      PATH: process.env.PATH,
      WRENN_DATA_DIR: data,
      WRENN_RAM_DIR: join(ram, 'store'),
      WRENN_LISTEN: `unix:${sock}`,
      WRENN_LOG_LEVEL: 'warn',
    },
    stdio: 'inherit',
  },
);
const lanes = new Lanes(`unix:${sock}`, 'store');
const c = lanes.client('control', SnapshotStoreService);
for (;;) {
  try {
    await c.listDisks({}, inMs(1000));
    break;
  } catch {
    await new Promise((r) => setTimeout(r, 100));
  }
}
const total = 64 * MiB;
await c.importImage({ name: 'debian', sourcePath: await writeSource(join(data, 'b.raw'), 'x', 64) }, inMs(60000));
const sandboxId = newSandboxId();
await c.createDisk({ diskId: sandboxId, image: 'debian' }, inMs(5000));
const t: Record<string, number[]> = {};
const ms = async <T>(what: string, p: () => Promise<T>) => {
  const s = performance.now();
  const r = await p();
  (t[what] ??= []).push(performance.now() - s);
  return r;
};
let parent = '';
for (let i = 0; i < Number(process.argv[2] ?? 30); i++) {
  const d = join(ram, 'f');
  mkdirSync(d, { recursive: true });
  const fd = openSync(join(d, 'ram'), 'w');
  ftruncateSync(fd, total);
  for (let b = 0; b < 64; b++) writeSync(fd, Buffer.alloc(4096, i + 1), 0, 4096, b * 40960);
  closeSync(fd);
  writeFileSync(join(d, 'vmstate'), 'v'.repeat(13000));
  const id = newSnapshotId();
  await ms('noop', () => c.listDisks({}, inMs(1000)));
  await ms('stage', () =>
    c.stageSnapshot(
      {
        snapshotId: id,
        sandboxId,
        parentId: parent,
        frozenDirectory: d,
        machine: { ...machine, memoryBytes: BigInt(total) },
        template: 'debian',
      },
      inMs(10000),
    ),
  );
  const early = newSandboxId();
  await ms('open staged', () => c.openSnapshot({ snapshotId: id, diskId: early }, inMs(60000)));
  await ms('durable', () => c.getSnapshot({ snapshotId: id, waitDurable: true }, inMs(120000)));
  await ms('delete disk', () => c.deleteDisk({ diskId: early }, inMs(60000)));
  await ms('open', () => c.openSnapshot({ snapshotId: id, diskId: sandboxId }, inMs(60000)));
  parent = id;
}
for (const [k, v] of Object.entries(t)) {
  v.sort((a, b) => a - b);
  console.log(k.padEnd(12), 'min', v[0]!.toFixed(2), 'p50', v[v.length >> 1]!.toFixed(2), 'max', v.at(-1)!.toFixed(2));
}
lanes.close();
child.kill('SIGTERM');
await new Promise((r) => child.once('exit', r));
rmSync(data, { recursive: true });
rmSync(ram, { recursive: true });
