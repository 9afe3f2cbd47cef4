// The vm-runtimes of all hosts, each over a control lane of its own.
import { VmRuntimeService, VmState } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';
import type { StageTiming as TimingMessage } from '@wrenn/proto/wrenn/v1/sandbox';
import { type OutboundCall, acrossRestart } from '@wrenn/kit/deadlines';
import { msOfDuration } from '@wrenn/kit/duration';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';
import { Lanes, type RpcClient } from '@wrenn/kit/lanes';

import type { Freezing, Frozen, HostVm, HostVms, NewVm, StageTiming } from '../domain/ports.ts';

export type VmRuntime = RpcClient<typeof VmRuntimeService.method>;

const stateOf: Record<VmState, HostVm['state']> = {
  [VmState.UNSPECIFIED]: 'starting',
  [VmState.STARTING]: 'starting',
  [VmState.RUNNING]: 'running',
  [VmState.FREEZING]: 'stopping',
  [VmState.STOPPING]: 'stopping',
  [VmState.DEAD]: 'dead',
};

export class HostLanes implements HostVms {
  readonly #lanes = new Map<string, { lanes: Lanes; client: VmRuntime }>();

  async create(
    address: string,
    vm: NewVm,
    call: OutboundCall,
  ): Promise<{ guestAddress: string; timings: readonly StageTiming[] }> {
    const origin = vm.snapshot
      ? { snapshotId: vm.snapshot.id }
      : {
          image: vm.template.image,
          vcpuCount: vm.vcpuCount,
          memoryBytes: BigInt(vm.memoryBytes),
          diskBytes: BigInt(vm.diskBytes),
        };
    const { name: template, defaultUser } = vm.template;
    const answer = await this.client(address)
      .createVm(
        { sandboxId: vm.id, template, env: vm.env, defaultUser, accessToken: vm.access.accessToken, ...origin },
        acrossRestart(call),
      )
      .catch((error: unknown) => {
        throw asRestoreError(error, vm);
      });
    const guestAddress = answer.vm?.guestAddress ?? '';
    if (guestAddress === '') throw new WrennError('INTERNAL', `${address} made ${vm.id} but gave no address`);
    return { guestAddress, timings: answer.timings.map(timingOf) };
  }

  async freeze(address: string, freezing: Freezing, call: OutboundCall): Promise<Frozen> {
    const { snapshot, timings } = await this.client(address).snapshotVm({ ...freezing }, call);
    return { isDurable: snapshot?.isDurable ?? false, timings: timings.map(timingOf) };
  }

  async destroy(address: string, id: SandboxId, call: OutboundCall): Promise<void> {
    await this.client(address).destroyVm({ sandboxId: id }, call);
  }

  async list(address: string, call: OutboundCall): Promise<HostVm[]> {
    const { vms } = await this.client(address).listVms({}, call);
    return vms.flatMap((vm) => {
      if (!isSandboxId(vm.sandboxId)) return [];
      const { sandboxId, guestAddress, deathReason, deathMessage } = vm;
      const state = stateOf[vm.state] ?? 'starting';
      return [{ sandboxId, state, guestAddress, isDead: state === 'dead', deathReason, deathMessage }];
    });
  }

  close(): void {
    for (const { lanes } of this.#lanes.values()) lanes.close();
    this.#lanes.clear();
  }

  client(address: string): VmRuntime {
    let entry = this.#lanes.get(address);
    if (!entry) {
      const lanes = new Lanes(address, `vm-runtime at ${address}`);
      entry = { lanes, client: lanes.client('control', VmRuntimeService) };
      this.#lanes.set(address, entry);
    }
    return entry.client;
  }
}

function timingOf({ stage, startedAfter, duration }: TimingMessage): StageTiming {
  return {
    stage,
    startedAfterMs: startedAfter ? msOfDuration(startedAfter) : 0,
    durationMs: duration ? msOfDuration(duration) : 0,
  };
}

// That the host does not have what a sandbox stands on is loss of data, however it came about.
function asRestoreError(error: unknown, { id, snapshot }: NewVm): unknown {
  if (!snapshot || !hasReason(error, 'SNAPSHOT_NOT_FOUND')) return error;
  const message = `the host does not have snapshot ${snapshot.id} of ${id} any more`;
  return new WrennError('SNAPSHOT_CORRUPT', message, { cause: error, meta: { snapshot: snapshot.id } });
}
