// vm-runtime without its scheduler, which would end VMs it knows nothing of and chooses where their memory comes
// from. For the time of a measurement; then the scheduler is back, and nothing that was made here is left.
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

import { listProcesses } from '@wrenn/cli/proc';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { type SandboxId, type SnapshotId, newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { type RpcClient, Lanes } from '@wrenn/kit/lanes';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import type { StageTiming } from '@wrenn/proto/wrenn/v1/sandbox';
import { MemorySource, VmRuntimeService } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';

export type Source = 'map' | 'uffd' | 'copy';

const limitMs = 120_000;
const wireSources = { map: MemorySource.MAP, uffd: MemorySource.UFFD, copy: MemorySource.COPY } as const;

export interface Restored {
  readonly id: SandboxId;
  readonly timings: readonly StageTiming[];
}

export class HostAlone implements AsyncDisposable {
  readonly #mesh: TestMesh;
  readonly #lanes: Lanes;
  readonly #vms: RpcClient<(typeof VmRuntimeService)['method']>;
  readonly #processes: RpcClient<(typeof ProcessService)['method']>;
  readonly #template: string;
  readonly #made = { vms: new Set<SandboxId>(), snapshots: new Set<SnapshotId>() };

  private constructor(mesh: TestMesh, template: string) {
    this.#mesh = mesh;
    this.#template = template;
    this.#lanes = new Lanes(mesh.mesh.addresses.vmRuntime, 'vm-runtime');
    this.#vms = this.#lanes.client('control', VmRuntimeService);
    this.#processes = this.#lanes.client('interactive', ProcessService);
  }

  static async take(mesh: TestMesh, template: string): Promise<HostAlone> {
    await mesh.mesh.service('scheduler').stop();
    return new HostAlone(mesh, template);
  }

  async boot(memoryBytes: bigint): Promise<SandboxId> {
    const sandboxId = newSandboxId();
    this.#made.vms.add(sandboxId);
    const size = { vcpuCount: 1, memoryBytes, diskBytes: 2n ** 30n };
    const template = { template: this.#template, image: this.#template };
    await this.#vms.createVm({ sandboxId, ...template, ...size }, inMs(limitMs));
    return sandboxId;
  }

  async restore(snapshotId: SnapshotId, source: Source): Promise<Restored> {
    const id = newSandboxId();
    this.#made.vms.add(id);
    const request = { sandboxId: id, template: this.#template, snapshotId, memorySource: wireSources[source] };
    return { id, timings: (await this.#vms.createVm(request, inMs(limitMs))).timings };
  }

  // Resolves once it is on disk; the VM is gone then.
  async freeze(sandboxId: SandboxId): Promise<SnapshotId> {
    const snapshotId = newSnapshotId();
    this.#made.snapshots.add(snapshotId);
    await this.#vms.snapshotVm({ sandboxId, snapshotId, waitDurable: true }, inMs(limitMs));
    this.#made.vms.delete(sandboxId);
    return snapshotId;
  }

  async sh(sandboxId: SandboxId, script: string): Promise<void> {
    const process = { command: '/bin/sh', args: ['-c', script] };
    const timeout = durationOfMs(limitMs); // Less by default than a slow guest takes to touch its memory.
    const { exitCode, stderr } = await this.#processes.exec({ sandboxId, process, timeout }, inMs(limitMs));
    if (exitCode !== 0) throw new Error(`exit code ${exitCode} of ${script}: ${Buffer.from(stderr).toString()}`);
  }

  async destroy(sandboxId: SandboxId): Promise<void> {
    await this.#vms.destroyVm({ sandboxId }, inMs(limitMs));
    this.#made.vms.delete(sandboxId);
  }

  // Faults that the pager has answered, or, without one, those of the VMM process altogether.
  async faults(sandboxId: SandboxId): Promise<number> {
    const pager = listProcesses().find(({ args }) => args.some((arg) => arg.includes(`/${sandboxId}/jail/pager.sock`)));
    if (pager) return faultsOf(`${pager.args[pager.args.indexOf('--listen') + 1]}.stats`);
    const vmm = listProcesses().find(({ args }) => args.includes(`wrenn-${sandboxId}`));
    // Behind the program's name, which may hold anything, `minflt` is the eighth field.
    const fields = readFileSync(`/proc/${vmm?.pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return Number(fields[7]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of this.#made.vms) await this.destroy(id);
    for (const snapshotId of this.#made.snapshots) await this.#vms.deleteSnapshot({ snapshotId }, inMs(limitMs));
    this.#lanes.close();
    await this.#mesh.mesh.service('scheduler').start();
    const { hosts } = this.#mesh.client;
    const isBack = async () => (await hosts.list({}, inMs(2000))).hosts.some(({ isAlive }) => isAlive);
    await eventually('the scheduler is back and knows its host', isBack, 60_000);
  }
}

async function faultsOf(path: string): Promise<number> {
  const socket = connect(path);
  const said: Buffer[] = [];
  for await (const piece of socket as AsyncIterable<Buffer>) said.push(piece);
  const { faults } = JSON.parse(Buffer.concat(said).toString()) as { faults: number };
  return faults;
}
