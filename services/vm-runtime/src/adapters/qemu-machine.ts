import { WrennError } from '@wrenn/kit/errors';
import { type ProcessIdentity, isRunning } from '@wrenn/kit/process-identity';

import { ConsoleRing } from '../domain/console-ring.ts';
import type { Death, Machine } from '../domain/vm.ts';
import { answersWithin } from '../domain/watchdog.ts';
import { Qmp, type QmpEvent } from './qmp.ts';
import { consoleBytes } from './qemu-args.ts';

// A running QEMU, known by its process and spoken to by QMP.
export async function connectMachine(process: ProcessIdentity, qmpPath: string, signal: AbortSignal): Promise<Machine> {
  const ended = Promise.withResolvers<Death>();
  const onEvent = (event: QmpEvent) => {
    if (event.name === 'SHUTDOWN') ended.resolve(guestStopped(event));
  };
  const qmp = await Qmp.connect(qmpPath, onEvent, () => isRunning(process), signal);
  void qmp.closed.then(() => ended.resolve({ reason: 'VMM_DIED', message: 'QEMU ended unexpectedly' }));
  const status = await qmp.execute('query-status');
  if (!isRunningStatus(status)) ended.resolve({ reason: 'GUEST_SHUTDOWN', message: 'the guest has shut down' });
  return new QemuMachine(process, qmp, ended.promise);
}

class QemuMachine implements Machine {
  readonly process: ProcessIdentity;
  readonly ended: Promise<Death>;
  readonly #qmp: Qmp;
  readonly #console = new ConsoleRing(consoleBytes);

  constructor(process: ProcessIdentity, qmp: Qmp, ended: Promise<Death>) {
    this.process = process;
    this.#qmp = qmp;
    this.ended = ended;
  }

  isAnswering(limitMs: number): Promise<boolean> {
    // Its own limit only ends the waiting for an answer that came too late to matter.
    return answersWithin(this.#qmp.execute('query-status', {}, 2 * limitMs), limitMs);
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
      return await this.#qmp.execute('ringbuf-read', { device: 'console', size: consoleBytes, format: 'base64' });
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
