// The pager process of a VM whose memory comes by userfaultfd.
// services/pager/README.md is the contract. The pager outlives this service as QEMU does, so it writes what it
// has to say into a file.
import { spawn } from 'node:child_process';
import { type FileHandle, readFile, rm } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import { z } from 'zod';

import { WrennError } from '@wrenn/kit/errors';
import { type ProcessIdentity, identifyProcess, isRunning } from '@wrenn/kit/process-identity';
import { addReportedSpan, setAttributes, traceEnvironment } from '@wrenn/kit/telemetry/span';

import type { OpenedSnapshot } from '../domain/snapshot.ts';
import type { Death } from '../domain/vm.ts';
import { MemoryDump } from './memory-dump.ts';
import { OpenFiles } from './open-files.ts';
import { guestNiceness, unprivileged } from './unprivileged.ts';
import type { VmPaths } from './vm-paths.ts';

export interface PagerStart {
  readonly paths: VmPaths;
  readonly uid: number;
  readonly snapshot: OpenedSnapshot;
  readonly isEager: boolean;
  readonly enterCgroup: (pid: number) => void;
}

const count = z.number().int().nonnegative();
const lineShape = z.discriminatedUnion('event', [
  z.object({ event: z.literal('listening') }),
  z.object({ event: z.literal('prefetched'), pages: count, us: count }),
  z.object({ event: z.literal('fatal'), reason: z.string().optional(), message: z.string().optional() }),
  z.object({ event: z.literal('ended'), faults: count, prefetched_pages: count, copied_bytes: count }),
]);
type Line = z.infer<typeof lineShape>;
type LineOf<E extends Line['event']> = Extract<Line, { event: E }>;

const pollMs = 2;
const goneLookMs = 250;
const firstFd = 3;

export class Pager {
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
  }

  // Resolves once it accepts a VM's handshake.
  async start({ paths, uid, snapshot, isEager, enterCgroup }: PagerStart): Promise<ProcessIdentity> {
    await rm(paths.pagerSocket, { force: true });
    await using files = new OpenFiles();
    const log = await files.open(paths.pagerLog, 'w', 0o600);
    const said = log.fd;
    const passed: FileHandle[] = [];
    const pass = async (path: string, flags = 'r') => {
      passed.push(await files.open(path, flags, 0o600));
      return String(firstFd + passed.length - 1);
    };
    const args = ['serve', '--listen', paths.pagerSocket, '--header', await pass(snapshot.headerPath)];
    for (const { path, sumsPath } of snapshot.memoryFiles) {
      const file = await pass(path);
      args.push('--file', sumsPath === '' ? file : `${file}:${await pass(sumsPath)}`);
    }
    if (snapshot.workingSetPath !== '') args.push('--working-set', await pass(snapshot.workingSetPath));
    args.push('--record', await pass(paths.workingSet, 'w'));
    if (isEager) args.push('--eager');
    const [command, ...rest] = [...unprivileged(uid), this.#program, ...args] as [string, ...string[]];
    const stdio = ['ignore' as const, said, said, ...passed.map(({ fd }) => fd)];
    const child = spawn(command, rest, { detached: true, cwd: '/', stdio, env: traceEnvironment() });
    await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    enterCgroup(child.pid!);
    setPriority(child.pid!, guestNiceness);
    child.unref();
    const process = identifyProcess(child.pid!);
    if (!process) throw failed('it ended at once');
    await this.#await('listening', process, paths);
    return process;
  }

  // Resolves once what is fetched before the VM may go on is in place.
  async awaitPrefetched(process: ProcessIdentity, paths: VmPaths): Promise<void> {
    const { pages, us } = await this.#await('prefetched', process, paths);
    addReportedSpan('prefetch', us / 1000, { 'wrenn.memory.pages': pages });
  }

  // Notes what one that has ended did in all.
  async noteWork(paths: VmPaths): Promise<void> {
    const ended = (await linesOf(paths)).find((line) => line.event === 'ended');
    if (!ended) return;
    setAttributes({
      'wrenn.pager.faults': ended.faults,
      'wrenn.pager.prefetched_pages': ended.prefetched_pages,
      'wrenn.pager.copied_bytes': ended.copied_bytes,
    });
  }

  readyDump(vmm: ProcessIdentity, paths: VmPaths): Promise<MemoryDump> {
    return MemoryDump.ready(this.#program, vmm, paths);
  }

  // Resolves when it is gone, or when nobody cares any more.
  async whenGone(process: ProcessIdentity, uncared: Promise<void>): Promise<void> {
    let isCared = true;
    void uncared.then(() => (isCared = false));
    while (isCared && isRunning(process)) await sleep(goneLookMs);
  }

  // Why a VM ended, where its pager knows better.
  async explain(death: Death, process: ProcessIdentity, paths: VmPaths): Promise<Death> {
    const fatal = (await linesOf(paths)).find((line) => line.event === 'fatal');
    if (fatal) {
      const reason = fatal.reason === 'SNAPSHOT_CORRUPT' ? 'MEMORY_CORRUPT' : 'PAGER_DIED';
      return { reason, message: fatal.message ?? 'a page could not be given' };
    }
    return isRunning(process) ? death : { reason: 'PAGER_DIED', message: 'QEMU or its pager ended unexpectedly' };
  }

  async #await<E extends Line['event']>(event: E, process: ProcessIdentity, paths: VmPaths): Promise<LineOf<E>> {
    for (;;) {
      const lines = await linesOf(paths);
      const said = lines.find((line): line is LineOf<E> => line.event === event);
      if (said) return said;
      const fatal = lines.find((line) => line.event === 'fatal');
      if (fatal) {
        const reason = fatal.reason === 'SNAPSHOT_CORRUPT' ? 'SNAPSHOT_CORRUPT' : 'VMM_START_FAILED';
        throw new WrennError(reason, fatal.message ?? 'the memory cannot be given');
      }
      if (!isRunning(process)) throw failed(await readFile(paths.pagerLog, 'utf8'));
      await sleep(pollMs);
    }
  }
}

async function linesOf({ pagerLog }: VmPaths): Promise<Line[]> {
  const text = await readFile(pagerLog, 'utf8');
  return text.split('\n').flatMap((line) => {
    try {
      return [lineShape.parse(JSON.parse(line))];
    } catch {
      // A line for people, or one that is not whole yet.
      return [];
    }
  });
}

function failed(why: string): WrennError {
  return new WrennError('VMM_START_FAILED', `the pager did not start: ${why.trim().slice(-500)}`);
}
