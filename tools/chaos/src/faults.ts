// What a run does to the mesh. Each fault hits processes by pid and start time, never by name.
import { writeFile } from 'node:fs/promises';

import { isDatabaseOf } from '@wrenn/cli/mesh/orphans';
import type { ServiceName } from '@wrenn/cli/mesh/options';
import { planServices } from '@wrenn/cli/mesh/service-plan';
import { listProcesses } from '@wrenn/cli/proc';
import { type FailpointName, createFailpoints, destroyFailpoints } from '@wrenn/kit/failpoint';
import { isRunning, signalProcess } from '@wrenn/kit/process-identity';
import type { TestMesh } from '@wrenn/e2e/mesh';

import type { Dice } from '@wrenn/kit/testkit/dice';
import type { Population } from './population.ts';

export interface Fault {
  readonly name: string;
  // How long the mesh may take to agree with itself again.
  readonly settleLimitMs: number;
  // What must happen after it for it to strike, and whether it has.
  readonly trap?: Trap;
  // Returns what it did, for the history.
  inject(): Promise<string>;
  // Takes back what would go on by itself.
  lift?(): Promise<void>;
}

export interface Trap {
  readonly struckBy: 'create' | 'destroy' | 'pause';
  hasStruck(): boolean;
}

const settleLimitMs = 10_000;
// A VMM that stands still is noticed by a watchdog, not by its end.
const frozenLimitMs = 30_000;

export interface FaultParts {
  readonly mesh: TestMesh;
  readonly population: Population;
  readonly dice: Dice;
  readonly failpointFile: string;
}

// Death at each step of create and destroy, in their order.
export function enumeratedFaults(parts: FaultParts): readonly Fault[] {
  return [
    ...createFailpoints.map((name) => dieAt(parts, name, 'create')),
    ...destroyFailpoints.map((name) => dieAt(parts, name, 'destroy')),
  ];
}

export function randomFaults(parts: FaultParts): readonly Fault[] {
  const services = planServices(parts.mesh.mesh.options).map(({ name }) => name);
  return [
    ...services.map((name) => killService(parts, name)),
    killAllServices(parts, services),
    killDatabase(parts),
    hitVmm(parts, 'kill a VMM', 'SIGKILL', settleLimitMs),
    hitVmm(parts, 'crash a VMM', 'SIGSEGV', settleLimitMs),
    hitVmm(parts, 'freeze a VMM', 'SIGSTOP', frozenLimitMs),
    crashGuest(parts),
  ];
}

export function killService({ mesh }: Pick<FaultParts, 'mesh'>, name: ServiceName): Fault {
  return {
    name: `kill ${name}`,
    settleLimitMs,
    async inject() {
      const victim = mesh.mesh.service(name).running;
      if (!victim) return `${name} does not run right now`;
      signalProcess(victim, 'SIGKILL');
      return `pid ${victim.pid}`;
    },
  };
}

// As when the machine kills all that is not a VM, or somebody upgrades in a hurry.
function killAllServices({ mesh }: FaultParts, names: readonly ServiceName[]): Fault {
  return {
    name: 'kill all services',
    // They start on the same processors, at the same time.
    settleLimitMs: 2 * settleLimitMs,
    async inject() {
      const victims = names.flatMap((name) => mesh.mesh.service(name).running ?? []);
      for (const victim of victims) signalProcess(victim, 'SIGKILL');
      return `${victims.length} of them`;
    },
  };
}

function killDatabase({ mesh }: FaultParts): Fault {
  return {
    name: 'kill the database',
    // It recovers before it serves again.
    settleLimitMs: 2 * settleLimitMs,
    async inject() {
      const { dataDir } = mesh.mesh.options;
      const postmaster = listProcesses().find((view) => isDatabaseOf(dataDir, view));
      if (!postmaster) return 'it does not run right now';
      signalProcess(postmaster, 'SIGKILL');
      return `pid ${postmaster.pid}`;
    },
  };
}

function hitVmm({ population, dice }: FaultParts, name: string, signal: NodeJS.Signals, limitMs: number): Fault {
  return {
    name,
    settleLimitMs: limitMs,
    async inject() {
      const { settled } = population;
      if (settled.length === 0) return 'there is none';
      const resident = dice.pick(settled);
      const vmm = resident.guest.vmm();
      if (!vmm) return `${resident.guest.id} has none`;
      population.doom(resident);
      signalProcess(vmm, signal);
      return `${resident.guest.id}, pid ${vmm.pid}`;
    },
  };
}

// The agent is PID 1 of its guest: when it ends, the guest's kernel does.
function crashGuest({ population, dice }: FaultParts): Fault {
  return {
    name: 'crash a guest',
    settleLimitMs,
    async inject() {
      const { settled } = population;
      if (settled.length === 0) return 'there is none';
      const resident = dice.pick(settled);
      population.doom(resident);
      const crash = resident.guest.exec('/bin/sh', ['-c', 'echo c > /proc/sysrq-trigger'], { timeoutMs: 2000 });
      await crash.catch((error: unknown) => error); // Nobody is left to answer.
      return resident.guest.id;
    },
  };
}

const serviceOf: Readonly<Record<string, ServiceName>> = {
  scheduler: 'scheduler',
  vm: 'vm-runtime',
  network: 'network',
  store: 'snapshot-store',
};

// A service dies the next time that it passes this step.
export function dieAt(
  { mesh, failpointFile }: Pick<FaultParts, 'mesh' | 'failpointFile'>,
  name: FailpointName,
  struckBy: Trap['struckBy'],
): Fault {
  const service = serviceOf[name.split('.')[0] ?? ''] ?? 'vm-runtime';
  let watch: NodeJS.Timeout | undefined;
  let hasStruck = false;
  const lift = async () => {
    clearInterval(watch);
    await writeFile(failpointFile, '');
  };
  return {
    name: `die at ${name}`,
    settleLimitMs,
    trap: { struckBy, hasStruck: () => hasStruck },
    async inject() {
      const victim = mesh.mesh.service(service).running;
      hasStruck = false;
      await writeFile(failpointFile, `${name}=exit`);
      // Once: its next life shall live.
      watch = setInterval(() => {
        if (!victim || isRunning(victim)) return;
        hasStruck = true;
        void lift();
      }, 20);
      return `armed in ${service}`;
    },
    lift,
  };
}

// The sandboxes of this mesh that have a VMM, by what the machine itself says.
export function vmmsOf({ mesh }: TestMesh): Set<string> {
  const { runDir, ramDir } = mesh.options;
  const ids = listProcesses().flatMap(({ args }) => {
    const isVmm = args[0]?.includes('qemu-system') === true;
    const isOurs = args.some((arg) => arg.includes(runDir) || arg.includes(ramDir));
    return isVmm && isOurs ? (/cl-[0-9a-z]{25}/.exec(args.join(' '))?.[0] ?? []) : [];
  });
  return new Set(ids);
}
