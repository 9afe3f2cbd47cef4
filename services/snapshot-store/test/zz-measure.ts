import { spawn } from 'node:child_process';
import { mkdirSync, openSync, ftruncateSync, writeSync, closeSync, writeFileSync, rmSync, mkdtempSync } from 'node:fs';
import { randomFillSync } from 'node:crypto';
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
const child = spawn(process.execPath, [join(import.meta.dirname, '../src/main.ts')], {
  env: {
    PATH: process.env.PATH,
    WRENN_DATA_DIR: data,
    WRENN_RAM_DIR: join(ram, 'store'),
    WRENN_LISTEN: `unix:${sock}`,
    WRENN_LOG_LEVEL: 'warn',
  },
  stdio: 'inherit',
});
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
const total = Number(process.argv[2] ?? 1024) * MiB;
const src = await writeSource(join(data, 'b.raw'), 'x', 64);
await c.importImage({ name: 'debian', sourcePath: src }, inMs(60000));
function freeze(id: string, mb: number, seed: number) {
  const d = join(ram, 'f-' + id);
  mkdirSync(d, { recursive: true });
  const fd = openSync(join(d, 'ram'), 'w');
  ftruncateSync(fd, total);
  const buf = Buffer.alloc(MiB);
  // scattered: 64 KiB pieces
  const pieces = mb * 16;
  const step = Math.floor(total / 65536 / pieces);
  randomFillSync(buf);
  for (let i = 0; i < pieces; i++) {
    buf.writeUInt32LE(i * 7 + seed, 0);
    writeSync(fd, buf, 0, 65536, i * step * 65536 + 0);
  }
  closeSync(fd);
  writeFileSync(join(d, 'vmstate'), 'v'.repeat(13000));
  return d;
}
const ms = async <T>(what: string, p: () => Promise<T>) => {
  const t = performance.now();
  const r = await p();
  console.log(what, (performance.now() - t).toFixed(2), 'ms');
  return r;
};
const sandboxId = newSandboxId();
await c.createDisk({ diskId: sandboxId, image: 'debian' }, inMs(5000));
const stageReq = (id: string, parentId: string, d: string) => ({
  snapshotId: id,
  sandboxId,
  parentId,
  frozenDirectory: d,
  machine: { ...machine, memoryBytes: BigInt(total) },
  template: 'debian',
});
let parent = '';
for (const [mb, label] of [
  [256, 'full'],
  [10, 'diff1'],
  [40, 'diff2'],
  [40, 'diff3'],
  [40, 'diff4'],
] as const) {
  const d = freeze(sandboxId, mb, mb);
  const id = newSnapshotId();
  await ms(`${label} stage`, () => c.stageSnapshot(stageReq(id, parent, d), inMs(10000)));
  const early = newSandboxId();
  await ms(`${label} open staged`, () => c.openSnapshot({ snapshotId: id, diskId: early }, inMs(60000)));
  const early2 = newSandboxId();
  await ms(`${label} open staged again`, () => c.openSnapshot({ snapshotId: id, diskId: early2 }, inMs(60000)));
  await ms(`${label} durable (${mb} MB touched)`, () =>
    c.getSnapshot({ snapshotId: id, waitDurable: true }, inMs(120000)),
  );
  await ms(`${label} open`, () => c.openSnapshot({ snapshotId: id, diskId: sandboxId }, inMs(60000)));
  await ms(`${label} deleteDisk`, () => c.deleteDisk({ diskId: early }, inMs(60000)));
  await ms(`${label} open another`, () => c.openSnapshot({ snapshotId: id, diskId: newSandboxId() }, inMs(60000)));
  await ms(`${label} list`, () => c.listSnapshots({}, inMs(60000)));
  parent = id;
}
lanes.close();
child.kill('SIGTERM');
await new Promise((r) => child.once('exit', r));
rmSync(data, { recursive: true });
rmSync(ram, { recursive: true });
