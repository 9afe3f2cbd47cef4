// What a QEMU spawned by hand stands on: a network slot of the mesh's own, and the arguments that the mesh itself
// uses, taken from a running sandbox. Everything it was lent is given back at the end.
import { type SpawnOptions, spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { timestampNow } from '@bufbuild/protobuf/wkt';
import { listProcesses } from '@wrenn/cli/proc';
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';
import { type SandboxId, newSandboxId } from '@wrenn/kit/ids';
import { type RpcClient, Lanes } from '@wrenn/kit/lanes';
import { type ProcessIdentity, hasEndedWithin, identifyProcess, signalProcess } from '@wrenn/kit/process-identity';
import { UndoStack } from '@wrenn/kit/undo-stack';
import { AgentService } from '@wrenn/proto/wrenn/agent/v1/agent';
import { NetworkService } from '@wrenn/proto/wrenn/network/v1/network';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

const agentPort = 49_983;
const readyLimitMs = 60_000;
const dialPauseMs = 10;

export interface RawSlot {
  readonly id: SandboxId;
  readonly namespace: string;
  readonly guestAddress: string;
  readonly store: RpcClient<typeof SnapshotStoreService.method>;
  readonly undo: UndoStack;
}

// The command line of a sandbox's VMM.
export function vmmArgs(guest: Guest): readonly string[] {
  const vmm = guest.vmm();
  const view = listProcesses().find(({ pid }) => pid === vmm?.pid);
  if (!view) throw new Error('the model sandbox has no VMM');
  return view.args;
}

export async function inRawSlot<T>(mesh: TestMesh, work: (slot: RawSlot) => Promise<T>): Promise<T> {
  const id = newSandboxId();
  const { network, snapshotStore } = mesh.mesh.addresses;
  const [networkLanes, storeLanes] = [new Lanes(network, 'network'), new Lanes(snapshotStore, 'snapshot-store')];
  const undo = new UndoStack();
  undo.push(() => networkLanes.close());
  undo.push(() => storeLanes.close());
  try {
    const slots = networkLanes.client('control', NetworkService);
    const store = storeLanes.client('control', SnapshotStoreService);
    undo.push(async () => void (await slots.releaseSlot({ owner: id }, inMs(30_000))));
    const { slot } = await slots.leaseSlot({ owner: id }, inMs(30_000));
    if (!slot) throw new Error('the mesh gave no slot');
    undo.push(async () => void (await store.deleteDisk({ diskId: id }, inMs(30_000))));
    const { namespace, guestAddress } = slot;
    return await work({ id, namespace, guestAddress, store, undo });
  } finally {
    await undo.undo();
  }
}

// The model's arguments with another id: every path and name in them bears the id, and nothing else of it. Makes
// the directories that they name.
export async function argsFor(model: readonly string[], modelId: string, { id, undo }: RawSlot, diskPath: string) {
  const args = model.map((arg) => arg.replaceAll(modelId, id));
  if (!args.some((arg) => arg.includes(diskPath))) throw new Error(`no argument names ${diskPath}`);
  for (const path of directoriesOf(args, id)) {
    undo.push(() => rm(path, { recursive: true, force: true }));
    await mkdir(path, { recursive: true });
  }
  return args;
}

// Milliseconds from the spawn of a VMM in the slot to the first answer of the agent's own service.
export async function untilFirstAnswer(
  { id, namespace, guestAddress, undo }: RawSlot,
  template: string,
  command: readonly string[],
  stdio: SpawnOptions['stdio'] = 'ignore',
): Promise<number> {
  const lanes = new Lanes(`${guestAddress}:${agentPort}`, 'the guest agent');
  undo.push(() => lanes.close());
  const startedAtMs = performance.now();
  const child = spawn('ip', ['netns', 'exec', namespace, ...command], { cwd: '/', stdio });
  const vmm = identifyProcess(child.pid ?? 0);
  if (!vmm) throw new Error('QEMU ended at once');
  undo.push(() => end(vmm));
  const endMs = startedAtMs + readyLimitMs;
  while (!(await accepts(guestAddress))) {
    if (child.exitCode !== null) throw new Error(`the raw QEMU ended with ${child.exitCode}`);
    if (performance.now() > endMs) throw new Error(`the raw guest is not ready after ${readyLimitMs} ms`);
    await sleep(dialPauseMs);
  }
  const request = { sandboxId: id, templateId: template, time: timestampNow() };
  await lanes.client('control', AgentService).init(request, inMs(10_000));
  return performance.now() - startedAtMs;
}

// Those that hold memory file and socket: of the id's own, and no disk.
function directoriesOf(args: readonly string[], id: string): string[] {
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
