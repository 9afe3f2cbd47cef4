// What is killed here is killed for good (SIGKILL); the promise is that nothing else goes with it.
import { readFile } from 'node:fs/promises';

import { listProcesses } from '@wrenn/cli/proc';
import { takeInventory } from '@wrenn/cli/leak-check/leak-check';
import { askHealth } from '@wrenn/cli/mesh/readiness';
import { inMs } from '@wrenn/kit/deadlines';
import { isRunning, signalProcess } from '@wrenn/kit/process-identity';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();

describe('a VMM that is killed', () => {
  test('turns its sandbox into an error within seconds and gives back all it held; its neighbour notices nothing', async () => {
    const neighbour = await mesh.now.create();
    const before = await takeInventory(mesh.now.mesh.options);
    const guest = await mesh.now.create();
    const vmm = guest.vmm();
    process.kill(vmm!.pid, 'SIGKILL');
    await eventually('it is in error', async () => (await guest.get()).state === SandboxState.ERROR, 10_000);
    expect((await guest.get()).errorReason).toBe('VMM_DIED');
    for (const kind of ['process', 'guest memory', 'run file', 'disk', 'cgroup', 'unix socket']) {
      await eventually(`no ${kind} is left`, async () => {
        const now = await takeInventory(mesh.now.mesh.options);
        return [...(now.get(kind) ?? [])].every((thing) => before.get(kind)?.has(thing));
      });
    }
    const call = mesh.now.client.processes.exec({ sandboxId: guest.id, process: { command: 'id' } }, inMs(10_000));
    expect(await reasonOf(call)).toBe('SANDBOX_NOT_RUNNING');
    expect(await neighbour.sh('echo well')).toBe('well');
    await neighbour.destroy();
  });

  test('ends the calls into it at once', async () => {
    const guest = await mesh.now.create();
    const call = guest.exec('sleep', ['60']);
    const reason = reasonOf(call);
    await eventually('it runs', async () => (await guest.count('sleep 60')) === 1);
    process.kill(guest.vmm()!.pid, 'SIGKILL');
    const killedAtMs = Date.now();
    expect(['VMM_DIED', 'AGENT_UNREACHABLE', 'SANDBOX_NOT_RUNNING']).toContain(await reason);
    expect(Date.now() - killedAtMs).toBeLessThan(10_000);
    await guest.destroy();
  });

  test('and a guest that powers itself off is told apart from it', async () => {
    const guest = await mesh.now.create();
    await guest.exec('/bin/sh', ['-c', 'echo o > /proc/sysrq-trigger']).catch(() => undefined); // The agent dies with it.
    await eventually('it is in error', async () => (await guest.get()).state === SandboxState.ERROR, 15_000);
    expect((await guest.get()).errorReason).toMatch(/^(GUEST_SHUTDOWN|VMM_DIED)$/);
  });
});

describe('a service that is killed comes back, and running sandboxes stay', () => {
  let guest: Guest | undefined;
  const running = async () => (guest ??= await mesh.now.create());
  afterAll(async () => {
    await guest?.destroy();
  });

  test.each(['vm-runtime', 'scheduler', 'gateway', 'network', 'snapshot-store', 'edge-proxy'] as const)(
    '%s',
    async (name) => {
      const { id } = await running();
      const vmm = guest?.vmm();
      const mark = await guest?.sh('cat /proc/sys/kernel/random/boot_id');
      await mesh.now.replaceKilled(name);
      await eventually(
        'commands run again',
        async () => (await guest?.sh('cat /proc/sys/kernel/random/boot_id')) === mark,
        30_000,
      );
      expect(isRunning(vmm!)).toBe(true);
      const seen = await eventually('it is known', () => guest?.get(), 30_000);
      expect(seen).toMatchObject({ id, state: SandboxState.RUNNING });
      // And the mesh still does its main job.
      const fresh = await eventually('sandboxes are made again', () => mesh.now.create(), 30_000);
      expect(await fresh.sh('echo made')).toBe('made');
      await fresh.destroy();
    },
  );

  // Two that start in the real-time class kept two processors to themselves until the database gave up on its clients.
  test.each(['gateway', 'vm-runtime'] as const)('%s comes before others once it serves, not before', async (name) => {
    await running();
    const service = mesh.now.mesh.service(name);
    const killed = service.running;
    signalProcess(killed!, 'SIGKILL');
    const look = async (pid: number) => {
      const isFirst = (await runProgram('chrt', ['--pid', `${pid}`])).includes('SCHED_RR');
      return { isFirst, isServing: (await askHealth(service.plan)).isServing };
    };
    const looks: Awaited<ReturnType<typeof look>>[] = [];
    await eventually('it comes first', async () => {
      const pid = service.running?.pid;
      if (pid === undefined || pid === killed?.pid) return false;
      looks.push(await look(pid));
      return looks.at(-1)?.isFirst;
    });
    expect(looks).toContainEqual({ isFirst: false, isServing: false });
    expect(looks).not.toContainEqual({ isFirst: true, isServing: false });
  });

  test('processes inside run on while vm-runtime is gone, and can be taken up again', async () => {
    const sandbox = await running();
    const { processes } = mesh.now.client;
    const process_ = { command: '/bin/sh', args: ['-c', 'read line; echo "got $line"'] };
    const request = { sandboxId: sandbox.id, process: process_, tag: 'survivor', hasStdin: true };
    const first = processes.start(request)[Symbol.asyncIterator]();
    await first.next();
    await mesh.now.replaceKilled('vm-runtime');
    expect(await reasonOf(first.next())).not.toMatch(/^none/);
    const target = { sandboxId: sandbox.id, process: { selector: { case: 'tag', value: 'survivor' } } } as const;
    await eventually('it is listed', async () => {
      const listed = await processes.list({ sandboxId: sandbox.id }, inMs(5000));
      return listed.processes.some(({ tag }) => tag === 'survivor');
    });
    const events = processes.connect(target)[Symbol.asyncIterator]();
    await events.next();
    await processes.sendInput({ ...target, data: Buffer.from('through\n') }, inMs(10_000));
    const output = await events.next();
    const event = output.value?.event?.event;
    expect(event?.case === 'stdout' && Buffer.from(event.value).toString()).toBe('got through\n');
    for await (const last of { [Symbol.asyncIterator]: () => events }) {
      if (last.event?.event.case === 'exited') expect(last.event.event.value.exitCode).toBe(0);
    }
  });
});

test('the database may be killed: commands go on, and lifecycle calls work again once it is back', async () => {
  const guest = await mesh.now.create();
  expect(await guest.sh('echo before')).toBe('before');
  const cluster = `${mesh.now.mesh.options.dataDir}/postgres/cluster`;
  const postmaster = Number((await readFile(`${cluster}/postmaster.pid`, 'utf8')).split('\n')[0]);
  process.kill(postmaster, 'SIGKILL');
  expect(await guest.sh('echo still')).toBe('still');
  await eventually('it is back', async () => (await guest.get()).state === SandboxState.RUNNING, 30_000);
  const fresh = await eventually('sandboxes are made again', () => mesh.now.create(), 30_000);
  await Promise.all([fresh.destroy(), guest.destroy()]);
});

test('a sandbox whose VMM died while vm-runtime was gone is found out', async () => {
  const guest = await mesh.now.create();
  const vmm = guest.vmm();
  const service = mesh.now.mesh.service('vm-runtime');
  process.kill(service.running!.pid, 'SIGSTOP');
  process.kill(vmm!.pid, 'SIGKILL');
  process.kill(service.running!.pid, 'SIGKILL');
  await eventually('it is in error', async () => (await guest.get()).state === SandboxState.ERROR, 30_000);
  expect(listProcesses().some(({ args }) => args.includes(`wrenn-${guest.id}`))).toBe(false);
});

test('a client that leaves during Create leaves no sandbox behind', async () => {
  const leave = new AbortController();
  const before = new Set(await idsNow());
  const call = mesh.now.client.sandboxes.create({ template: 'minimal' }, inMs(60_000, leave.signal));
  const reason = reasonOf(call);
  await eventually('it has begun', async () => (await idsNow()).some((id) => !before.has(id)));
  leave.abort();
  expect(await reason).toBe('CANCELLED');
  await eventually('nothing of it lives', async () => (await idsNow()).every((id) => before.has(id)), 60_000);
});

async function idsNow(): Promise<string[]> {
  return Array.fromAsync(mesh.now.client.list(), ({ id }) => id);
}

endsWithoutLeaks(mesh);
