// What hits a mesh while sandboxes are paused and resumed. Whether a VM that is hit may be lost is read from its
// host's journal: one that was frozen, or is being restored, has a snapshot and must come back.
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { listProcesses } from '@wrenn/cli/proc';
import type { ServiceName } from '@wrenn/cli/mesh/options';
import {
  type FailpointName,
  commitFailpoints,
  createFailpoints,
  freezeFailpoints,
  lifecycleFailpoints,
} from '@wrenn/kit/failpoint';
import { type ProcessIdentity, signalProcess } from '@wrenn/kit/process-identity';
import type { TestMesh } from '@wrenn/e2e/mesh';

import type { Dice } from '@wrenn/kit/testkit/dice';
import { type Fault, dieAt, killService } from './faults.ts';
import type { Herd, Member } from './herd.ts';

export interface StrikeParts {
  readonly mesh: TestMesh;
  readonly herd: Herd;
  readonly dice: Dice;
  readonly failpointFile: string;
}

const settleLimitMs = 10_000;
const victims: readonly ServiceName[] = ['vm-runtime', 'snapshot-store', 'scheduler'];
const kills = 3;
// What a resume passes, too.
const restoreFailpoints = createFailpoints.filter((name) => /^(vm\.|store\.disk\.(described|published))/.test(name));
const releaseFailpoints = ['vm.release.killed', 'vm.release.removed'] as const;
const endOfDoubtMs = 100;
const patienceMs = 6000;

// Every one of them once, those at random moments some more times.
export function pauseStrikes(parts: StrikeParts): readonly Fault[] {
  const steps: FailpointName[] = [
    ...freezeFailpoints,
    ...lifecycleFailpoints,
    ...commitFailpoints,
    ...restoreFailpoints,
    ...releaseFailpoints,
  ];
  const random = [...victims.map((name) => killService(parts, name)), killVmm(parts), killPager(parts)];
  return [
    ...Array.from({ length: kills }, () => random).flat(),
    killAllOf(parts),
    killFrozenVmm(parts),
    ...steps.map((name) => dieAt(parts, name, 'pause')),
  ];
}

export function randomKill(parts: StrikeParts): Fault {
  return killService(parts, parts.dice.pick(victims));
}

function killAllOf({ mesh }: StrikeParts): Fault {
  return {
    name: `kill ${victims.join(', ')}`,
    settleLimitMs: 2 * settleLimitMs,
    async inject() {
      const running = victims.flatMap((name) => mesh.mesh.service(name).running ?? []);
      for (const victim of running) signalProcess(victim, 'SIGKILL');
      return `${running.length} of them`;
    },
  };
}

function killVmm(parts: StrikeParts): Fault {
  return killProcessOf(parts, 'kill a VMM', ({ guest }) => guest.vmm());
}

function killPager(parts: StrikeParts): Fault {
  return killProcessOf(parts, 'kill a pager', ({ guest: { id } }) =>
    listProcesses().find(({ args }) => args.includes('--listen') && args.some((arg) => arg.includes(id))),
  );
}

function killProcessOf(
  { mesh, herd, dice }: StrikeParts,
  name: string,
  processOf: (member: Member) => ProcessIdentity | undefined,
): Fault {
  return {
    name,
    settleLimitMs,
    async inject() {
      const look = () =>
        herd.members.flatMap((member) => {
          const process = processOf(member);
          return process ? [{ member, process }] : [];
        });
      let there = look();
      // A pager is there only while a VM that changes much has been resumed.
      for (const endMs = Date.now() + patienceMs; there.length === 0 && Date.now() < endMs; there = look()) {
        await sleep(50);
      }
      if (there.length === 0) return 'there is none';
      const { member, process } = dice.pick(there);
      const phases = [phaseOf(mesh, member)];
      signalProcess(process, 'SIGKILL');
      phases.push(phaseOf(mesh, member));
      // What had been done when it was hit, and is written down only now.
      await sleep(endOfDoubtMs);
      phases.push(phaseOf(mesh, member));
      if (phases.some((phase) => phase === 'running' || phase === 'freezing')) member.mayBeLost = true;
      const fate = member.mayBeLost ? '' : ', which must come back';
      return `pid ${process.pid} of ${member.guest.id} (${phases.join(', ')})${fate}`;
    },
  };
}

// Once the journal says `frozen` a VM's end changes nothing: so it is held there, and hit.
function killFrozenVmm({ mesh, herd, failpointFile }: StrikeParts): Fault {
  let isOver = false;
  let hasStruck = false;
  const disarm = () => writeFile(failpointFile, '');
  return {
    name: 'kill a frozen VMM',
    settleLimitMs,
    trap: { struckBy: 'pause', hasStruck: () => hasStruck },
    async inject() {
      [isOver, hasStruck] = [false, false];
      await writeFile(failpointFile, 'vm.freeze.journalled=delay:1500');
      void (async () => {
        while (!isOver && !hasStruck) {
          const frozen = herd.members.find((member) => phaseOf(mesh, member) === 'frozen');
          const vmm = frozen?.guest.vmm();
          if (vmm) {
            signalProcess(vmm, 'SIGKILL');
            hasStruck = true;
            await disarm();
          }
          await sleep(20);
        }
      })();
      return 'waiting for one';
    },
    async lift() {
      isOver = true;
      await disarm();
    },
  };
}

// `none` when its host has no record of it.
function phaseOf({ mesh }: TestMesh, { guest }: Member): string {
  try {
    const record = readFileSync(join(mesh.options.runDir, 'vm-runtime/vms', guest.id, 'vm.json'), 'utf8');
    return /"phase":"([a-z]+)"/.exec(record)?.[1] ?? 'none';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'none';
    throw error;
  }
}
