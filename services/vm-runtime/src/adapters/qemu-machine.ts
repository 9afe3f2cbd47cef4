import { setTimeout as sleep } from 'node:timers/promises';

import { WrennError } from '@wrenn/kit/errors';
import { type ProcessIdentity, isRunning } from '@wrenn/kit/process-identity';

import { ConsoleRing } from '../domain/console-ring.ts';
import type { Death, Machine } from '../domain/vm.ts';
import { answersWithin } from '../domain/watchdog.ts';
import { Qmp, type QmpEvent } from './qmp.ts';
import { consoleBytes } from './qemu-args.ts';

const connectLimitMs = 10_000;
const connectPauseMs = 100;
const consoleLimitMs = 5000;
const died: Death = { reason: 'VMM_DIED', message: 'QEMU ended unexpectedly' };

// A QEMU that was started just now, known by its process and spoken to by QMP.
export async function connectMachine(process: ProcessIdentity, qmpPath: string, signal: AbortSignal): Promise<Machine> {
  const ended = Promise.withResolvers<Death>();
  const qmp = await openQmp(process, qmpPath, ended, signal);
  return new QemuMachine(process, Promise.resolve(qmp), ended.promise);
}

// One of an earlier life, taken charge of at once and spoken to as soon as it answers: one that stands still
// holds up nobody. Whether it lives is for the watchdog to say.
export function reconnectMachine(process: ProcessIdentity, qmpPath: string): Machine {
  const ended = Promise.withResolvers<Death>();
  return new QemuMachine(process, untilOpen(process, qmpPath, ended), ended.promise);
}

async function untilOpen(
  process: ProcessIdentity,
  qmpPath: string,
  ended: PromiseWithResolvers<Death>,
): Promise<Qmp | undefined> {
  for (;;) {
    try {
      return await openQmp(process, qmpPath, ended, AbortSignal.timeout(connectLimitMs));
    } catch {
      // Why it does not answer makes no difference: what counts is whether it runs.
      if (!isRunning(process)) {
        ended.resolve(died);
        return undefined;
      }
      await sleep(connectPauseMs, undefined, { ref: false });
    }
  }
}

async function openQmp(
  process: ProcessIdentity,
  path: string,
  ended: PromiseWithResolvers<Death>,
  signal: AbortSignal,
): Promise<Qmp> {
  const onEvent = (event: QmpEvent) => {
    if (event.name === 'SHUTDOWN') ended.resolve(guestStopped(event));
  };
  const qmp = await Qmp.connect(path, onEvent, () => isRunning(process), signal);
  let status: unknown;
  try {
    status = await qmp.execute('query-status');
  } catch (error) {
    qmp.close();
    throw error;
  }
  void qmp.closed.then(() => ended.resolve(died));
  if (!isRunningStatus(status)) ended.resolve({ reason: 'GUEST_SHUTDOWN', message: 'the guest has shut down' });
  return qmp;
}

class QemuMachine implements Machine {
  readonly process: ProcessIdentity;
  readonly ended: Promise<Death>;
  readonly #qmp: Promise<Qmp | undefined>; // Undefined once it ended before it could be spoken to.
  readonly #console = new ConsoleRing(consoleBytes);

  constructor(process: ProcessIdentity, qmp: Promise<Qmp | undefined>, ended: Promise<Death>) {
    this.process = process;
    this.#qmp = qmp;
    this.ended = ended;
  }

  isAnswering(limitMs: number): Promise<boolean> {
    // Its own limit only ends the waiting for an answer that came too late to matter.
    const answer = this.#qmp.then(async (qmp) => {
      if (!qmp) throw new Error('QEMU ended');
      return qmp.execute('query-status', {}, 2 * limitMs);
    });
    return answersWithin(answer, limitMs);
  }

  // Reading takes bytes out of QEMU's ring, so they are kept here. After QEMU's end what was read before
  // is all there is.
  async readConsole(): Promise<Uint8Array> {
    if (isRunning(this.process)) {
      const text = await this.#readRing();
      if (typeof text !== 'string') throw new WrennError('INTERNAL', 'QEMU gave no console text');
      this.#console.append(Buffer.from(text, 'base64'));
    }
    return this.#console.bytes;
  }

  async #readRing(): Promise<unknown> {
    try {
      const qmp = await Promise.race([this.#qmp, sleep(consoleLimitMs, undefined, { ref: false })]);
      if (!qmp) throw new Error('QEMU does not answer');
      return await qmp.execute('ringbuf-read', { device: 'console', size: consoleBytes, format: 'base64' });
    } catch (error) {
      throw new WrennError('VMM_DIED', 'QEMU does not give its console', { cause: error });
    }
  }
}

function guestStopped({ data }: QmpEvent): Death {
  return { reason: 'GUEST_SHUTDOWN', message: `the guest stopped by itself (${String(data['reason'])})` };
}

function isRunningStatus(status: unknown): boolean {
  return typeof status === 'object' && status !== null && 'status' in status && status.status === 'running';
}
