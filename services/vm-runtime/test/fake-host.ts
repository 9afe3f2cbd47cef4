// A host all of whose parts are fakes, and the lives of the service on it.
import { systemClock } from '@wrenn/kit/clock';
import { type SandboxId, type SnapshotId, newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';

import {
  FakeAgent,
  FakeBulk,
  FakeConsoles,
  FakeDisks,
  FakeJournal,
  type FakeMachine,
  FakeSlots,
  FakeSnapshots,
  FakeVmm,
} from './fakes.ts';
import { ComingSnapshots } from '../src/domain/coming-snapshots.ts';
import type { BootSpec, FreezeOrder, RestoreSpec } from '../src/domain/vm.ts';
import { VmTable } from '../src/domain/vm-table.ts';

export const caller = { signal: new AbortController().signal, deadlineAtMs: Infinity };

export class FakeHost {
  readonly slots = new FakeSlots();
  readonly disks = new FakeDisks();
  readonly vmm = new FakeVmm();
  readonly journal = new FakeJournal();
  readonly snapshots = new FakeSnapshots(this.disks);
  readonly consoles = new FakeConsoles();
  readonly agent = new FakeAgent(); // Of every guest.
  readonly token = 'a'.repeat(64);
  bulk = new FakeBulk();
  coming = new ComingSnapshots(this.snapshots); // As the last life has them.

  // Another life of the service.
  table(): VmTable {
    this.coming = new ComingSnapshots(this.snapshots);
    return new VmTable({
      slots: this.slots,
      disks: this.disks,
      snapshots: this.coming,
      vmm: this.vmm,
      journal: this.journal,
      agents: { dial: () => this.agent },
      log: openLog('test', 'silent'),
      clock: systemClock,
      bulk: this.bulk,
      consoles: this.consoles,
      newAccessToken: () => this.token,
      watchdogTimes: { pauseMs: 5, lookMs: 5, roundMs: 5, rounds: 2 },
    });
  }

  async runningVm(): Promise<{ vms: VmTable; wanted: BootSpec }> {
    const [vms, wanted] = [this.table(), bootSpec()];
    await vms.create(wanted, caller);
    return { vms, wanted };
  }

  machineOf(sandboxId: SandboxId): FakeMachine {
    const machine = this.vmm.running.get(sandboxId);
    if (!machine) throw new Error(`no machine runs for ${sandboxId}`);
    return machine;
  }

  // How many slots, disks, machines and records.
  held(): [number, number, number, number] {
    return [this.slots.leased.size, this.disks.made.size, this.vmm.running.size, this.journal.records.size];
  }
}

export function bootSpec(): BootSpec {
  const sizes = { vcpuCount: 1, memoryBytes: 2 ** 28, diskBytes: 2 ** 30 };
  const guest = { sandboxId: newSandboxId(), template: 'minimal', env: {}, defaultUser: '' };
  return { kind: 'boot', ...guest, image: 'minimal', ...sizes };
}

// Of the same sandbox, unless it is to be another.
export function restoreSpec(origin: BootSpec, snapshotId: SnapshotId, sandboxId = origin.sandboxId): RestoreSpec {
  const { template, env, defaultUser } = origin;
  return { kind: 'restore', sandboxId, template, env, defaultUser, snapshotId };
}

export function orderOf(keepRunning: boolean): FreezeOrder {
  return { snapshotId: newSnapshotId(), keepRunning };
}
