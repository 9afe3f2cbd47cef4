// `mesh.json` in the run directory: what runs where, for `down`, `doctor` and people.
import { readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { writeDurably } from '@wrenn/kit/durable-file';
import { z } from 'zod';

const name = z.object({ pid: z.number(), startTicks: z.number() });
const schema = z.object({
  phase: z.enum(['starting', 'ready', 'stopping']),
  supervisor: name,
  startedAt: z.string(),
  runDir: z.string(),
  dataDir: z.string(),
  ramDir: z.string(),
  firstSlot: z.number(),
  lastSlot: z.number(),
  addresses: z.object({
    gateway: z.string(),
    scheduler: z.string(),
    vmRuntime: z.string(),
    // A mesh of before there were these may still run.
    vmRuntimeBulk: z.string().default(''),
    gatewayBulk: z.string().default(''),
    edgeProxy: z.string(),
    network: z.string(),
    snapshotStore: z.string(),
    metrics: z.record(z.string(), z.string()).default({}),
    traceKeeper: z.string().default(''),
    traceIntake: z.string().default(''),
    traces: z.string().default(''),
  }),
  services: z.record(z.string(), name.extend({ restartCount: z.number() })),
});

export type MeshState = z.infer<typeof schema>;

export function stateFile(runDir: string): string {
  return join(runDir, 'mesh.json');
}

export async function readState(runDir: string): Promise<MeshState | undefined> {
  let text: string;
  try {
    text = await readFile(stateFile(runDir), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return schema.parse(JSON.parse(text));
}

export async function writeState(state: MeshState): Promise<void> {
  await writeDurably(stateFile(state.runDir), `${JSON.stringify(state, null, 2)}\n`);
}

// With the drafts that a supervisor which was killed while writing may have left.
export async function removeState(runDir: string): Promise<void> {
  for (const name of await readdir(runDir)) {
    if (name.startsWith('mesh.json')) await rm(join(runDir, name), { force: true });
  }
}
