// Places where a test can make a service die, stall or fail. They do nothing unless WRENN_FAILPOINTS is set,
// and a service that has it set starts only with WRENN_ALLOW_FAILPOINTS=1 beside it.
// The one module-wide state of the kit: a failpoint must cost nothing where it stands, wiring included.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { z } from 'zod';

import { ConfigError } from './config.ts';
import { WrennError } from './errors.ts';
import type { Log } from './log.ts';

// Every place there is, in the order in which a sandbox passes them. The first word names the service:
// scheduler, vm (vm-runtime), network, store (snapshot-store).
export const createFailpoints = [
  'scheduler.create.placed', // The record says `starting`; its host knows nothing yet.
  'vm.journal.directory-made',
  'vm.create.journalled',
  'network.lease.taken', // Chosen, and not in the book.
  'network.lease.recorded', // In the book, and not answered.
  'network.build.linked', // Namespace and link of a slot built ahead; nothing inside yet.
  'network.build.done',
  'vm.create.leased',
  'store.disk.made', // The overlay, and no manifest.
  'store.disk.described', // Whole, and not in the store.
  'store.disk.published',
  'vm.create.disk-made',
  'vm.create.acquired',
  'vm.spawn.jailed',
  'vm.spawn.before',
  'vm.spawn.after',
  'vm.create.started',
  'vm.create.booted',
  'vm.create.initialised',
  'vm.create.done',
  'scheduler.create.made', // The VM runs; the record does not say so.
  'scheduler.create.recorded', // It does, and nobody was told.
] as const;

export const destroyFailpoints = [
  'scheduler.destroy.claimed',
  'vm.destroy.begun',
  'vm.release.killed',
  'vm.release.removed',
  'vm.destroy.killed',
  'network.remove.begun', // Off the book, and still there.
  'network.remove.done',
  'store.disk.retired', // Out of the store, and not removed.
  'store.disk.removed',
  'vm.destroy.released',
  'vm.destroy.done',
  'scheduler.destroy.released', // Nothing is left; the record does not say so.
  'scheduler.destroy.recorded',
] as const;

export const freezeFailpoints = [
  'vm.freeze.begun',
  'vm.freeze.quiesced',
  'vm.freeze.saved', // RAM and device state are complete; the VM could still go on.
  'vm.freeze.journalled', // It must not go on any more.
  'vm.freeze.killed',
  'vm.freeze.staged',
] as const;

// Of the record of a sandbox that is paused, resumed or forked.
export const lifecycleFailpoints = [
  'scheduler.pause.claimed', // The record says `pausing`; its host knows nothing yet.
  'scheduler.pause.frozen', // It is frozen; the record does not say so.
  'scheduler.pause.recorded',
  'scheduler.resume.claimed',
  'scheduler.resume.made', // It runs; the record does not say so.
  'scheduler.resume.recorded',
  'scheduler.live.frozen', // It goes on from its snapshot; the record does not say so.
  'scheduler.live.adopted',
  'scheduler.fork.placed', // The children are recorded; the source is not frozen.
  'scheduler.fork.made', // They run; the record does not say so.
] as const;

// From the staging of a snapshot to its commit, and its deletion.
export const commitFailpoints = [
  'store.snapshot.stage-noted', // It says what will be moved; nothing is yet.
  'store.snapshot.stage-memory-taken',
  'store.snapshot.stage-disk-taken',
  'store.snapshot.staged', // All of it is, and nobody was told.
  'store.snapshot.memory-written',
  'store.snapshot.layer-added',
  'store.snapshot.parents-linked',
  'store.snapshot.manifest-written', // Whole, and not in the store.
  'store.snapshot.published', // In the store, and still staged.
  'store.snapshot.committed',
  'store.snapshot.half-deleted', // Not in the store, and still staged.
] as const;

export const failpointNames = [
  ...createFailpoints,
  ...freezeFailpoints,
  ...lifecycleFailpoints,
  ...commitFailpoints,
  ...destroyFailpoints,
] as const;

export type FailpointName = (typeof failpointNames)[number];
type Action = { readonly kind: 'exit' | 'error' | 'delay' | 'block'; readonly ms: number };
type Actions = ReadonlyMap<string, Action>;

// What a service with failpoints reads beside its own fields.
export const failpointShape = {
  failpoints: z.string().optional(), // `name=exit,name=delay:250,name=error`, or `@/path` of a file that holds such.
  allowFailpoints: z.literal('1').optional(),
};

export interface FailpointConfig {
  readonly failpoints?: string | undefined;
  readonly allowFailpoints?: '1' | undefined;
}

let actions: (() => Actions) | undefined;

// Called once by main.ts. A file is read anew at each failpoint, so that a test can arm a running service.
export function armFailpoints({ failpoints, allowFailpoints }: FailpointConfig, log: Log): void {
  actions = undefined;
  if (failpoints === undefined) return;
  if (!allowFailpoints) throw new ConfigError('WRENN_FAILPOINTS: refused without WRENN_ALLOW_FAILPOINTS=1');
  log.warn({ failpoints }, 'failpoints are armed: this service fails on purpose');
  if (failpoints.startsWith('@')) {
    const path = failpoints.slice(1);
    actions = () => parseFailpoints(textOf(path));
  } else {
    const parsed = parseFailpoints(failpoints);
    actions = () => parsed;
  }
}

// `exit` kills this process as kill -9 does; `error` throws; `delay` waits; `block` holds the event loop up as long.
export async function failpoint(name: FailpointName): Promise<void> {
  const action = actions?.().get(name);
  if (action === undefined) return;
  if (action.kind === 'exit') process.kill(process.pid, 'SIGKILL');
  else if (action.kind === 'error') throw new WrennError('INTERNAL', `failpoint ${name}`);
  else if (action.kind === 'delay') await sleep(action.ms);
  else block(action.ms);
}

function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function parseFailpoints(text: string): Actions {
  const parsed = new Map<string, Action>();
  for (const entry of text.split(',').map((part) => part.trim())) {
    if (entry === '') continue;
    const [, name = '', kind, ms = '0'] = /^([a-z.-]+)=(exit|error|delay|block)(?::(\d{1,6}))?$/.exec(entry) ?? [];
    const isWhole = (kind === 'delay' || kind === 'block') === entry.includes(':');
    if (!isWhole || !failpointNames.some((known) => known === name)) {
      throw new ConfigError(`WRENN_FAILPOINTS: "${entry}" is none; names are ${failpointNames.join(', ')}`);
    }
    parsed.set(name, { kind: kind as Action['kind'], ms: Number(ms) });
  }
  return parsed;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
