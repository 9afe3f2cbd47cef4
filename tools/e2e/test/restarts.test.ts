// Upgrading Wrenn, or losing any part of it, must not cost a sandbox: what runs inside runs on, what it holds
// stays, and a client that connects again with the last sequence it saw misses nothing.
import type { ServiceName } from '@wrenn/cli/mesh/options';
import { type ProcessIdentity, isRunning, signalProcess } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { inMs } from '@wrenn/kit/deadlines';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { beforeAll, expect, test } from 'vitest';

import { Follower } from '../src/follower.ts';
import type { Guest } from '../src/guest.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const services = [
  'gateway',
  'gateway-bulk',
  'scheduler',
  'network',
  'snapshot-store',
  'vm-runtime',
  'edge-proxy',
] as const satisfies ServiceName[];

const mesh = useMesh();
const counting = 'i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i; sleep 0.2; done';
const marks = 'cat /proc/sys/kernel/random/boot_id /tmp/in-memory; sha256sum < /root/on-disk';

let guest: Guest;
let vmm: ProcessIdentity;
let marksBefore: string;
let follower: Follower;

beforeAll(async () => {
  guest = await mesh.now.create();
  vmm = guest.vmm()!;
  await guest.sh('echo kept > /tmp/in-memory; mkdir -p /root; head -c 4000000 /dev/urandom > /root/on-disk');
  marksBefore = await guest.sh(marks);
  const process_ = { command: '/bin/sh', args: ['-c', counting] };
  const started = mesh.now.client.processes.start({ sandboxId: guest.id, process: process_, tag: 'counter' });
  await started[Symbol.asyncIterator]().next();
  follower = new Follower(mesh.now.client, guest.id, 'counter');
}, 240_000);

const runningOf = (name: ServiceName) => mesh.now.mesh.service(name).running;

async function end(names: readonly ServiceName[], signal: NodeJS.Signals): Promise<void> {
  const victims = names.map((name) => [name, runningOf(name)!] as const);
  for (const [, victim] of victims) signalProcess(victim, signal);
  for (const [name, victim] of victims) {
    await eventually(`another ${name} runs`, () => (runningOf(name)?.pid ?? victim.pid) !== victim.pid, 20_000);
  }
}

async function everythingGoesOn(): Promise<void> {
  await eventually('its data is as it was', async () => (await guest.sh(marks)) === marksBefore, 20_000);
  const seen = follower.lineCount;
  await Promise.race([eventually('its output comes on', () => follower.lineCount > seen + 3, 20_000), follower.whole]);
  expect(isRunning(vmm)).toBe(true);
  const known = await eventually('it is known', () => guest.get(), 20_000);
  expect(known.state).toBe(SandboxState.RUNNING);
}

test.each(services)('%s may be killed', async (name) => {
  await end([name], 'SIGKILL');
  await everythingGoesOn();
});

test.each(services)('%s may be stopped and started', async (name) => {
  await end([name], 'SIGTERM');
  await everythingGoesOn();
});

test('all of them may be killed at once, and then sandboxes are made and destroyed again', async () => {
  await end(services, 'SIGKILL');
  await everythingGoesOn();
  const fresh = await eventually('sandboxes are made again', () => mesh.now.create(), 60_000);
  expect(await fresh.sh('echo made')).toBe('made');
  await fresh.destroy();
});

test('after all of that, every line of the process was seen once and in order', async () => {
  await guest.sh('touch /tmp/stop');
  const lines = (await follower.whole).trimEnd().split('\n');
  expect(lines).toEqual(lines.map((_line, index) => String(index + 1)));
  // Gateway and vm-runtime carry the stream: with them it broke.
  expect(follower.reconnectCount).toBeGreaterThanOrEqual(4);
});

test('a VMM that stands still delays the restart of vm-runtime for no other sandbox, and is found out', async () => {
  const frozen = await mesh.now.create();
  const restart = async () => {
    await end(['vm-runtime'], 'SIGKILL');
    const startMs = Date.now();
    await eventually('commands run again', () => guest.sh('echo here'), 30_000);
    return Date.now() - startMs;
  };
  const usualMs = await restart();
  signalProcess(frozen.vmm()!, 'SIGSTOP');
  // 5 to 10 s more, while the start waited for an answer of each VMM.
  expect(await restart()).toBeLessThan(usualMs + 4500);
  await eventually('it is in error', async () => (await frozen.get()).state === SandboxState.ERROR, 40_000);
  expect((await frozen.get()).errorReason).toBe('VMM_STUCK');
  await eventually('its VMM is gone', () => frozen.vmm() === undefined);
  expect(await guest.sh(marks)).toBe(marksBefore);
});

test('a VMM that stood still over the restart of vm-runtime and then goes on is served again', async () => {
  const paused = await mesh.now.create();
  const pausedVmm = paused.vmm()!;
  signalProcess(pausedVmm, 'SIGSTOP');
  await end(['vm-runtime'], 'SIGKILL');
  await eventually('the other one is served', () => guest.sh('echo here'), 30_000);
  signalProcess(pausedVmm, 'SIGCONT');
  expect(await eventually('it is served', () => paused.sh('echo again'), 30_000)).toBe('again');
  const { console } = await mesh.now.client.logs.readConsole({ sandboxId: paused.id }, inMs(10_000));
  expect(console.length).toBeGreaterThan(0);
  await Promise.all([paused.destroy(), guest.destroy()]);
});

endsWithoutLeaks(mesh);
