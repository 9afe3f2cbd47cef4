// Compares what the database says of a host with what the host says of itself.
import type { SandboxId } from '@wrenn/kit/ids';

import type { HostVm } from './ports.ts';
import { isHosted } from './sandbox-state.ts';
import type { Sandbox } from './sandbox.ts';

export interface Differences {
  // Running by the record, unknown to the host.
  readonly absent: readonly Sandbox[];
  // Running by the record, dead on the host.
  readonly dead: readonly { sandbox: Sandbox; vm: HostVm }[];
  // On the host, but not placed there when the record was read: over, paused, unknown, or newer than that.
  readonly strange: readonly SandboxId[];
}

// `placed` must have been read before `vms` was asked for: a sandbox is recorded as running only once
// its host has made it, so it must be in a list made after that.
export function differences(placed: readonly Sandbox[], vms: readonly HostVm[]): Differences {
  const vmOf = new Map(vms.map((vm) => [vm.sandboxId, vm]));
  const live = new Set(placed.filter(({ state }) => isHosted(state)).map(({ id }) => id));
  const running = placed.filter(({ state }) => state === 'running');
  return {
    absent: running.filter(({ id }) => !vmOf.has(id)),
    dead: running.flatMap((sandbox) => {
      const vm = vmOf.get(sandbox.id);
      return vm?.isDead ? [{ sandbox, vm }] : [];
    }),
    strange: vms.map(({ sandboxId }) => sandboxId).filter((id) => !live.has(id)),
  };
}

const reasonPattern = /^[A-Z][A-Z0-9_]{1,62}$/;

// A host's word for why a VM died, if it is one.
export function deathReasonOf(vm: HostVm): string {
  return reasonPattern.test(vm.deathReason) ? vm.deathReason : 'VMM_DIED';
}
