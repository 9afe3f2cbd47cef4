import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { WrennError } from '@wrenn/kit/errors';
import { isRunning, signalProcess } from '@wrenn/kit/process-identity';

import { ConsoleRing } from '../domain/console-ring.ts';
import type { StageTimer } from '../domain/stage-timer.ts';
import type { Death, Machine, MachineProcesses } from '../domain/vm.ts';
import { answersWithin } from '../domain/watchdog.ts';
import type { Pager } from './pager.ts';
import { consoleBytes } from './qemu-args.ts';
import { Qmp, type QmpEvent } from './qmp.ts';
import type { VmPaths } from './vm-paths.ts';

// Stopping writes out what QEMU keeps of the disk's tables.
const stopLimitMs = 10_000;

export interface MachineParts {
  readonly processes: MachineProcesses;
  readonly paths: VmPaths;
  readonly pager: Pager;
}

// A running QEMU, known by its process and spoken to by QMP.
export async function connectMachine(parts: MachineParts, signal: AbortSignal): Promise<QemuMachine> {
  const { processes, paths, pager } = parts;
  const ended = Promise.withResolvers<Death>();
  const onEvent = (event: QmpEvent) => {
    if (event.name === 'SHUTDOWN') ended.resolve(guestStopped(event));
  };
  const qmp = await Qmp.connect(paths.qmp, onEvent, () => isRunning(processes.vmm), signal);
  void qmp.closed.then(async () => {
    const why = processes.pager && (await pager.fatalOf(paths));
    ended.resolve(why ?? { reason: 'VMM_DIED', message: 'QEMU ended unexpectedly' });
  });
  if (processes.pager) void pager.whenGone(processes.pager, qmp.closed).then(() => killFor(processes, qmp));
  return new QemuMachine(parts, qmp, ended);
}

// Without its pager a VM stands still for ever at the next page it has not got.
function killFor({ vmm }: MachineProcesses, qmp: Qmp): void {
  signalProcess(vmm, 'SIGKILL');
  qmp.close();
}

export class QemuMachine implements Machine {
  readonly processes: MachineProcesses;
  readonly ended: Promise<Death>;
  readonly #paths: VmPaths;
  readonly #pager: Pager;
  readonly #qmp: Qmp;
  readonly #end: (death: Death) => void;
  readonly #console = new ConsoleRing(consoleBytes);

  constructor({ processes, paths, pager }: MachineParts, qmp: Qmp, ended: PromiseWithResolvers<Death>) {
    this.processes = processes;
    this.#paths = paths;
    this.#pager = pager;
    this.#qmp = qmp;
    this.ended = ended.promise;
    this.#end = ended.resolve;
  }

  // For one that an earlier life left running: a guest that has stopped meanwhile is noticed.
  async noticeShutdown(): Promise<void> {
    if ((await this.#status()) === 'shutdown')
      this.#end({ reason: 'GUEST_SHUTDOWN', message: 'the guest has shut down' });
  }

  // Resolves once the device state is loaded.
  async awaitLoaded(signal: AbortSignal): Promise<void> {
    while ((await this.#status()) === 'inmigrate') await sleep(2, undefined, { signal });
  }

  async freeze(timer: StageTimer): Promise<void> {
    await rm(this.#paths.vmstate, { force: true });
    await timer.time('stop', () => this.#qmp.execute('stop', {}, stopLimitMs));
    await timer.time('device state', () =>
      this.#qmp.execute('xen-save-devices-state', { filename: this.#paths.vmstate, live: false }),
    );
    const { memory, vmm } = this.processes;
    if (memory === 'map') await timer.time('dump', () => this.#pager.dump(vmm, this.#paths));
  }

  async goOn(): Promise<void> {
    await this.#qmp.execute('cont');
  }

  isAnswering(limitMs: number): Promise<boolean> {
    // Its own limit only ends the waiting for an answer that came too late to matter.
    return answersWithin(this.#qmp.execute('query-status', {}, 2 * limitMs), limitMs);
  }

  // Reading takes bytes out of QEMU's ring, so they are kept here. After QEMU's end what was read before
  // is all there is.
  async readConsole(): Promise<Uint8Array> {
    if (isRunning(this.processes.vmm)) {
      const text = await this.#readRing();
      if (typeof text !== 'string') throw new WrennError('INTERNAL', 'QEMU gave no console text');
      this.#console.append(Buffer.from(text, 'base64'));
    }
    return this.#console.bytes;
  }

  async #status(): Promise<unknown> {
    const answer = await this.#qmp.execute('query-status');
    return typeof answer === 'object' && answer !== null && 'status' in answer ? answer.status : undefined;
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
