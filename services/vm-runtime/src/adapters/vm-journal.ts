// One directory a VM under the run directory: it is made before anything is acquired for the VM and
// removed after all is released. On a tmpfs: after a reboot there is nothing to adopt.
import { chmodSync, mkdirSync } from 'node:fs';
import { mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { z } from 'zod';

import { writeDurablySync } from '@wrenn/kit/durable-file';
import { failpoint } from '@wrenn/kit/failpoint';
import { type SandboxId, type SnapshotId, isSandboxId, isSnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { setAttributes } from '@wrenn/kit/telemetry/span';

import { memorySources } from '../domain/memory-source.ts';
import type { Journal, VmRecord } from '../domain/vm.ts';

const sandboxId = z.custom<SandboxId>((id) => typeof id === 'string' && isSandboxId(id));
const snapshotId = z.custom<SnapshotId>((id) => typeof id === 'string' && isSnapshotId(id));
const process = z.object({ pid: z.number().int(), startTicks: z.number() });
const common = { sandboxId, createdAtMs: z.number() };
const facts = z.object({
  guest: z.object({
    sandboxId,
    template: z.string(),
    env: z.record(z.string(), z.string()),
    defaultUser: z.string(),
  }),
  vcpuCount: z.number().int(),
  memoryBytes: z.number().int(),
  snapshotId: snapshotId.optional(),
  guestAddress: z.ipv4(),
  accessToken: z.string(),
  processes: z.object({ vmm: process, memory: z.enum(['boot', ...memorySources]), pager: process.optional() }),
});
const recordShape = z.discriminatedUnion('phase', [
  z.object({ ...common, phase: z.literal('starting') }),
  z.object({ ...common, phase: z.literal('running'), facts }),
  z.object({ ...common, phase: z.literal('freezing'), facts }),
  z.object({ ...common, phase: z.literal('frozen'), facts, order: z.object({ snapshotId, keepRunning: z.boolean() }) }),
]);

export class VmJournal implements Journal {
  readonly #dir: string;
  readonly #log: Log;

  constructor(dir: string, log: Log) {
    this.#dir = dir;
    this.#log = log;
  }

  async write(record: VmRecord): Promise<void> {
    setAttributes({ 'wrenn.vm.phase': record.phase });
    const dir = join(this.#dir, record.sandboxId);
    mkdirSync(dir, { recursive: true });
    // QEMU, as its own uid, passes through to its jail.
    chmodSync(dir, 0o711);
    await failpoint('vm.journal.directory-made');
    // A guest may stand still for this.
    writeDurablySync(join(dir, 'vm.json'), JSON.stringify(record), 0o600);
  }

  async remove(sandboxId: SandboxId): Promise<void> {
    await rm(join(this.#dir, sandboxId), { recursive: true, force: true });
  }

  // A record that cannot be read counts as one that never got further than `starting`.
  async readAll(): Promise<VmRecord[]> {
    await mkdir(this.#dir, { recursive: true });
    const ids = (await readdir(this.#dir)).filter((name) => isSandboxId(name));
    return Promise.all(ids.map((id) => this.#read(id)));
  }

  async #read(sandboxId: SandboxId): Promise<VmRecord> {
    try {
      const text = await readFile(join(this.#dir, sandboxId, 'vm.json'), 'utf8');
      return recordShape.parse(JSON.parse(text)) as VmRecord;
    } catch (error) {
      this.#log.warn({ err: error, sandbox: sandboxId }, 'unreadable vm record');
      return { sandboxId, createdAtMs: 0, phase: 'starting' };
    }
  }
}
