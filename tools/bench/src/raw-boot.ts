// The floor under `create`: QEMU spawned by hand with the arguments the mesh itself uses, on a disk and
// in a network slot that stand ready. Timed from spawn to the first answer of the agent's own service.
import { spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { timestampNow } from '@bufbuild/protobuf/wkt';
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { listProcesses } from '@wrenn/cli/proc';
import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { Lanes } from '@wrenn/kit/lanes';
import { type ProcessIdentity, hasEndedWithin, identifyProcess, signalProcess } from '@wrenn/kit/process-identity';
import { UndoStack } from '@wrenn/kit/undo-stack';
import { AgentService } from '@wrenn/proto/wrenn/agent/v1/agent';
import { NetworkService } from '@wrenn/proto/wrenn/network/v1/network';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

const agentPort = 49_983;
const readyLimitMs = 60_000;

export class RawBoot {
  readonly #mesh: TestMesh;
  readonly #model: Guest;
  readonly #modelArgs: readonly string[];
  readonly #template: string;

  // `model` is a running sandbox of the mesh, whose VMM's arguments are taken as they are.
  constructor(mesh: TestMesh, model: Guest, template: string) {
    const vmm = model.vmm();
    const view = listProcesses().find(({ pid }) => pid === vmm?.pid);
    if (!view) throw new Error('the model sandbox has no VMM');
    this.#mesh = mesh;
    this.#model = model;
    this.#modelArgs = view.args;
    this.#template = template;
  }

  // Boots once, returns the milliseconds to readiness, removes everything.
  async run(): Promise<number> {
    const id = newSandboxId();
    const { network, snapshotStore } = this.#mesh.mesh.addresses;
    const [networkLanes, storeLanes] = [new Lanes(network, 'network'), new Lanes(snapshotStore, 'snapshot-store')];
    const undo = new UndoStack();
    undo.push(() => networkLanes.close());
    undo.push(() => storeLanes.close());
    try {
      const slots = networkLanes.client('control', NetworkService);
      const store = storeLanes.client('control', SnapshotStoreService);
      undo.push(async () => void (await slots.releaseSlot({ owner: id }, inMs(30_000))));
      const { slot } = await slots.leaseSlot({ owner: id }, inMs(30_000));
      undo.push(async () => void (await store.deleteDisk({ diskId: id }, inMs(30_000))));
      const virtualBytes = (await this.#model.get()).diskBytes;
      const { disk } = await store.createDisk({ diskId: id, image: this.#template, virtualBytes }, inMs(30_000));
      if (!slot || !disk) throw new Error('the mesh gave no slot or no disk');

      // Every path and name in the model's arguments bears its sandbox id, and nothing else of it.
      const args = this.#modelArgs.map((arg) => arg.replaceAll(this.#model.id, id));
      if (!args.some((arg) => arg.includes(disk.path))) throw new Error(`no argument names ${disk.path}`);
      for (const path of pathsOf(args, id)) {
        undo.push(() => rm(path, { recursive: true, force: true }));
        await mkdir(path, { recursive: true });
      }
      return await this.#boot(id, slot.namespace, slot.guestAddress, args, undo);
    } finally {
      await undo.undo();
    }
  }

  async #boot(id: string, namespace: string, address: string, args: readonly string[], undo: UndoStack) {
    const lanes = new Lanes(`${address}:${agentPort}`, 'the guest agent');
    undo.push(() => lanes.close());
    const startedAtMs = performance.now();
    const child = spawn('ip', ['netns', 'exec', namespace, ...args], { cwd: '/', stdio: 'ignore' });
    const vmm = identifyProcess(child.pid ?? 0);
    if (!vmm) throw new Error('QEMU ended at once');
    undo.push(() => end(vmm));
    const endMs = startedAtMs + readyLimitMs;
    while (!(await accepts(address))) {
      if (performance.now() > endMs) throw new Error(`the raw guest is not ready after ${readyLimitMs} ms`);
      await sleep(10);
    }
    const request = { sandboxId: id, templateId: this.#template, time: timestampNow() };
    await lanes.client('control', AgentService).init(request, inMs(10_000));
    return performance.now() - startedAtMs;
  }
}

// The directories that hold memory file and socket: those of the id's own that are no disk.
function pathsOf(args: readonly string[], id: string): string[] {
  const files = args.flatMap((arg) => arg.split(/[=:,]/)).filter((part) => part.startsWith('/') && part.includes(id));
  return [...new Set(files.filter((file) => !file.includes('/disks/')).map(dirname))];
}

async function end(vmm: ProcessIdentity): Promise<void> {
  signalProcess(vmm, 'SIGKILL');
  if (!(await hasEndedWithin(vmm, 10_000))) throw new Error(`QEMU ${vmm.pid} does not end`);
}

// As vm-runtime does it: short dials, because a SYN lost to a booting guest is repeated after a second.
function accepts(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port: agentPort });
    const answer = (isListening: boolean) => {
      socket.destroy();
      resolve(isListening);
    };
    socket.setTimeout(100, () => answer(false));
    socket.once('connect', () => answer(true)).once('error', () => answer(false));
  });
}
