import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { WrennError } from '@wrenn/kit/errors';
import { isRunning, signalProcess } from '@wrenn/kit/process-identity';
import type { StageTimer } from '@wrenn/kit/stage-timer';

import { ConsoleRing } from '../domain/console-ring.ts';
import type { Death, Freezing, Machine, MachineProcesses } from '../domain/vm.ts';
import { answersWithin } from '../domain/watchdog.ts';
import type { MemoryDump } from './memory-dump.ts';
import type { Pager } from './pager.ts';
import { consoleBytes } from './qemu-args.ts';
import { Qmp, type QmpEvent } from './qmp.ts';
import type { VmPaths } from './vm-paths.ts';

export interface MachineParts {
  readonly processes: MachineProcesses;
  readonly paths: VmPaths;
  readonly pager: Pager;
}

// A ring that was full has most likely been overrun.
const lostLine = Buffer.from('\n[wrenn: the console was written faster than it is read; some of it is lost]\n');

type Ended = PromiseWithResolvers<Death>;

const connectLimitMs = 10_000;
const connectPauseMs = 100;
const answerLimitMs = 5000;
const loadPauseMs = 2;
// Stopping writes out what QEMU keeps of the disk's tables.
const stopLimitMs = 10_000;
// Of a machine that runs, stands still, or is being restored. Any other is of a guest that is over.
const livingStatuses = ['running', 'paused', 'prelaunch', 'inmigrate', 'postmigrate', 'save-vm', 'restore-vm'];

// A QEMU that was started just now, known by its process and spoken to by QMP.
export async function connectMachine(parts: MachineParts, signal: AbortSignal): Promise<QemuMachine> {
  const ended = Promise.withResolvers<Death>();
  const qmp = await openQmp(parts, ended, signal);
  return new QemuMachine(parts, Promise.resolve(qmp), ended.promise);
}

// One of an earlier life, taken charge of at once and spoken to as soon as it answers: one that stands still
// holds up nobody. Whether it lives is for the watchdog to say.
export function reconnectMachine(parts: MachineParts): QemuMachine {
  const ended = Promise.withResolvers<Death>();
  return new QemuMachine(parts, untilOpen(parts, ended), ended.promise);
}

async function untilOpen(parts: MachineParts, ended: Ended): Promise<Qmp | undefined> {
  for (;;) {
    try {
      return await openQmp(parts, ended, AbortSignal.timeout(connectLimitMs));
    } catch {
      // Why it does not answer makes no difference: what counts is whether it runs.
      if (!isRunning(parts.processes.vmm)) {
        ended.resolve(await deathOf(parts));
        return undefined;
      }
      await sleep(connectPauseMs, undefined, { ref: false });
    }
  }
}

async function openQmp(parts: MachineParts, ended: Ended, signal: AbortSignal): Promise<Qmp> {
  const { processes, paths, pager } = parts;
  const onEvent = (event: QmpEvent) => {
    if (event.name === 'SHUTDOWN') ended.resolve(guestStopped(event));
  };
  const qmp = await Qmp.connect(paths.qmp, onEvent, () => isRunning(processes.vmm), signal);
  let status: string;
  try {
    status = await statusOf(qmp);
  } catch (error) {
    qmp.close();
    throw error;
  }
  void qmp.closed.then(async () => ended.resolve(await deathOf(parts)));
  // Without its pager a VM stands still for ever at the next page it has not got.
  if (processes.pager) {
    void pager.whenGone(processes.pager, qmp.closed).then(() => signalProcess(processes.vmm, 'SIGKILL'));
  }
  if (!livingStatuses.includes(status))
    ended.resolve({ reason: 'GUEST_SHUTDOWN', message: `the guest has stopped: ${status}` });
  return qmp;
}

async function deathOf({ processes, paths, pager }: MachineParts): Promise<Death> {
  const death = { reason: 'VMM_DIED', message: 'QEMU ended unexpectedly' } as const;
  return processes.pager ? pager.explain(death, processes.pager, paths) : death;
}

export class QemuMachine implements Machine {
  readonly processes: MachineProcesses;
  readonly ended: Promise<Death>;
  readonly #paths: VmPaths;
  readonly #pager: Pager;
  readonly #qmp: Promise<Qmp | undefined>; // Undefined once it ended before it could be spoken to.
  readonly #console = new ConsoleRing(consoleBytes);
  #untaken = new ConsoleRing(consoleBytes + lostLine.length);

  constructor({ processes, paths, pager }: MachineParts, qmp: Promise<Qmp | undefined>, ended: Promise<Death>) {
    this.processes = processes;
    this.#paths = paths;
    this.#pager = pager;
    this.#qmp = qmp;
    this.ended = ended;
  }

  isAnswering(limitMs: number): Promise<boolean> {
    // Its own limit only ends the waiting for an answer that came too late to matter.
    return answersWithin(this.#ask('query-status', {}, 2 * limitMs), limitMs);
  }

  // Resolves once the device state of a restored machine is loaded.
  async awaitLoaded(signal: AbortSignal): Promise<void> {
    const qmp = await this.#connected();
    while ((await statusOf(qmp)) === 'inmigrate') await sleep(loadPauseMs, undefined, { signal });
  }

  async readyFreeze(): Promise<Freezing> {
    const { memory, vmm } = this.processes;
    await rm(this.#paths.vmstate, { force: true });
    const dump = memory === 'map' ? await this.#pager.readyDump(vmm, this.#paths) : undefined;
    return {
      carryOut: (timer) => this.#freeze(timer, dump),
      [Symbol.dispose]: () => dump?.[Symbol.dispose](),
    };
  }

  async goOn(): Promise<void> {
    await this.#ask('cont');
  }

  async readConsole(): Promise<Uint8Array> {
    await this.#pullConsole();
    return this.#console.bytes;
  }

  async takeConsole(): Promise<Uint8Array> {
    await this.#pullConsole();
    const taken = this.#untaken.bytes;
    this.#untaken = new ConsoleRing(consoleBytes + lostLine.length);
    return taken;
  }

  // Reading takes bytes out of QEMU's ring, so they are kept here. After QEMU's end what was read before
  // is all there is.
  async #pullConsole(): Promise<void> {
    if (!isRunning(this.processes.vmm)) return;
    const text = await this.#ask('ringbuf-read', { device: 'console', size: consoleBytes, format: 'base64' });
    if (typeof text !== 'string') throw new WrennError('INTERNAL', 'QEMU gave no console text');
    const bytes = Buffer.from(text, 'base64');
    this.#console.append(bytes);
    this.#untaken.append(bytes.length < consoleBytes ? bytes : Buffer.concat([lostLine, bytes]));
  }

  async #freeze(timer: StageTimer, dump: MemoryDump | undefined): Promise<void> {
    const filename = this.#paths.vmstate;
    await timer.time('stop', () => this.#ask('stop', {}, stopLimitMs));
    await timer.time('device state', () => this.#ask('xen-save-devices-state', { filename, live: false }));
    if (dump) await timer.time('dump', () => dump.write());
  }

  // Errors: those of Qmp.execute.
  async #ask(command: string, args: Readonly<Record<string, unknown>> = {}, limitMs = answerLimitMs): Promise<unknown> {
    const qmp = await this.#connected();
    return qmp.execute(command, args, limitMs);
  }

  async #connected(): Promise<Qmp> {
    const silence = sleep(answerLimitMs, 'silent' as const, { ref: false });
    const qmp = await Promise.race([this.#qmp, silence]);
    if (qmp === 'silent') throw new WrennError('VMM_STUCK', 'QEMU does not let itself be spoken to');
    if (!qmp) throw new WrennError('VMM_DIED', 'QEMU ended before it could be spoken to');
    return qmp;
  }
}

function guestStopped({ data }: QmpEvent): Death {
  return { reason: 'GUEST_SHUTDOWN', message: `the guest stopped by itself (${String(data['reason'])})` };
}

async function statusOf(qmp: Qmp): Promise<string> {
  const answer = await qmp.execute('query-status');
  return typeof answer === 'object' && answer !== null && 'status' in answer ? String(answer.status) : '';
}
