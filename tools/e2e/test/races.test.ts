// Two calls that race on one sandbox, and parts that are down while calls come: each call gets its answer or a
// reason, in time, and nothing is left behind.
import { MeshClient } from '@wrenn/cli/client';
import type { ServiceName } from '@wrenn/cli/mesh/options';
import { listProcesses } from '@wrenn/cli/proc';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { signalProcess } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const sandboxes = () => mesh.now.client.sandboxes;
const over = ['SANDBOX_NOT_RUNNING', 'SANDBOX_NOT_FOUND', 'VMM_DIED', 'AGENT_UNREACHABLE'];
const none = 'none: the call succeeded';

async function livingIds(): Promise<string[]> {
  return Array.fromAsync(mesh.now.client.list(), ({ id }) => id);
}

function vmmCount(): number {
  const { ramDir } = mesh.now.mesh.options;
  return listProcesses().filter(
    ({ args }) => args[0]?.includes('qemu-system') === true && args.some((arg) => arg.includes(ramDir)),
  ).length;
}

async function timed<T>(call: Promise<T>): Promise<{ result: T; tookMs: number }> {
  const startMs = Date.now();
  const result = await call;
  return { result, tookMs: Date.now() - startMs };
}

describe('calls that race on one sandbox', () => {
  test('many destroys from two clients at once all succeed', async () => {
    const { id } = await mesh.now.create();
    using other = new MeshClient(mesh.now.mesh.addresses.gateway, mesh.now.mesh.addresses.gatewayBulk);
    const destroy = (client: MeshClient) => client.sandboxes.destroy({ sandboxId: id }, inMs(60_000));
    const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => destroy(i % 2 ? other : mesh.now.client)));
    for (const { sandbox } of answers) expect(sandbox?.state).toBe(SandboxState.DESTROYED);
    expect(vmmCount()).toBe(0);
  });

  test('commands beside a destroy are answered or refused, and none hangs', async () => {
    const guest = await mesh.now.create();
    const outcome = (script: string) =>
      timed(
        guest.sh(script).then(
          (said) => `said ${said}`,
          (error: unknown) => (error instanceof WrennError ? error.reason : String(error)),
        ),
      );
    const long = outcome('sleep 60');
    await eventually('it runs', async () => (await guest.count('sleep 60')) === 1);
    const before = Array.from({ length: 4 }, () => outcome('echo well'));
    const destroyed = guest.destroy();
    const after = Array.from({ length: 4 }, () => outcome('echo well'));
    for (const { result, tookMs } of await Promise.all([long, ...before, ...after])) {
      expect([...over, 'said well']).toContain(result);
      expect(tookMs).toBeLessThan(15_000);
    }
    await destroyed;
    expect((await outcome('echo well')).result).toBe('SANDBOX_NOT_RUNNING');
  });

  test('a file that is written while its sandbox is destroyed fails with a reason', async () => {
    const guest = await mesh.now.create();
    const begun = Promise.withResolvers<void>();
    const requests = async function* () {
      yield { part: { case: 'start' as const, value: { sandboxId: guest.id, path: '/tmp/endless' } } };
      for (let i = 0; ; i++) {
        yield { part: { case: 'data' as const, value: Buffer.alloc(65_536) } };
        if (i === 8) begun.resolve();
      }
    };
    const written = timed(reasonOf(mesh.now.client.bytes.write(requests(), inMs(60_000))));
    await begun.promise;
    await guest.destroy();
    expect(over).toContain((await written).result);
  });

  test('a destroy of a sandbox that is still being made ends both, and leaves nothing', async () => {
    const before = new Set(await livingIds());
    const created = reasonOf(sandboxes().create({ template: 'minimal' }, inMs(60_000)));
    const id = await eventually('it is placed', async () => (await livingIds()).find((each) => !before.has(each)));
    const { sandbox } = await sandboxes().destroy({ sandboxId: id }, inMs(60_000));
    expect(sandbox?.state).toBe(SandboxState.DESTROYED);
    expect(await created).toBe('STATE_CONFLICT');
    expect(vmmCount()).toBe(0);
  });

  test('creates with one request_id at once make one sandbox', async () => {
    const request = { template: 'minimal', requestId: 'race-1' };
    const answers = await Promise.all(Array.from({ length: 5 }, () => sandboxes().create(request, inMs(90_000))));
    expect(new Set(answers.map(({ sandbox }) => sandbox?.id)).size).toBe(1);
    expect(vmmCount()).toBe(1);
    await sandboxes().destroy({ sandboxId: answers[0]?.sandbox?.id ?? '' }, inMs(60_000));
  });

  test('of two different creates with one request_id at once one is made and the other refused', async () => {
    const wishes = [{ env: { A: '1' } }, { env: { A: '2' } }];
    const calls = wishes.map((wish) =>
      sandboxes().create({ template: 'minimal', requestId: 'race-2', ...wish }, inMs(90_000)),
    );
    const reasons = await Promise.all(calls.map(reasonOf));
    expect(reasons.toSorted()).toEqual(['REQUEST_ID_REUSED', none]);
    const made = await calls[reasons.indexOf(none)];
    expect(await livingIds()).toEqual([made?.sandbox?.id]);
    await sandboxes().destroy({ sandboxId: made?.sandbox?.id ?? '' }, inMs(60_000));
  });
});

describe('a service that is not there', () => {
  const limitMs = 8000;
  const graceMs = 1500;

  async function refusedInTime(call: Promise<unknown>, ...reasons: string[]): Promise<void> {
    const { result, tookMs } = await timed(reasonOf(call));
    expect(reasons).toContain(result);
    expect(tookMs).toBeLessThan(limitMs + graceMs);
  }

  const create = () => sandboxes().create({ template: 'minimal' }, inMs(limitMs));
  const others = (name: ServiceName) =>
    (['gateway', 'scheduler', 'network', 'snapshot-store', 'vm-runtime', 'edge-proxy'] as const)
      .filter((each) => each !== name)
      .map((each) => mesh.now.mesh.service(each).running?.pid);

  let neighbour: Guest | undefined;
  const running = async () => (neighbour ??= await mesh.now.create());
  afterAll(async () => {
    await neighbour?.destroy();
  });

  // Nothing else may have been restarted, and everything works again.
  async function comesBack(name: ServiceName, pids: readonly unknown[], guest: Guest): Promise<void> {
    const fresh = await eventually(`creates work again after ${name}`, () => mesh.now.create(), 60_000);
    expect(await fresh.sh('echo made')).toBe('made');
    expect(await guest.sh('echo there')).toBe('there');
    await fresh.destroy();
    expect(others(name)).toEqual(pids);
    await eventually('no VMM is left of what failed', () => vmmCount() === 1);
  }

  test.each(['scheduler', 'vm-runtime', 'network', 'snapshot-store'] as const)(
    '%s down: creates are refused in time, and work again once it is up',
    async (name) => {
      const guest = await running();
      expect(await guest.sh('echo there')).toBe('there');
      const pids = others(name);
      const service = mesh.now.mesh.service(name);
      await service.stop();
      await refusedInTime(create(), 'SERVICE_UNAVAILABLE');
      if (name === 'scheduler') {
        await refusedInTime(sandboxes().get({ sandboxId: guest.id }, inMs(limitMs)), 'SERVICE_UNAVAILABLE');
      }
      if (name !== 'vm-runtime') expect(await guest.sh('echo there')).toBe('there');
      else await refusedInTime(guest.sh('echo there'), 'SERVICE_UNAVAILABLE');
      await service.start();
      await comesBack(name, pids, guest);
    },
  );

  test.each(['scheduler', 'vm-runtime', 'network', 'snapshot-store'] as const)(
    '%s standing still: creates end at their deadline, and work again once it goes on',
    async (name) => {
      const guest = await running();
      expect(await guest.sh('echo there')).toBe('there');
      const pids = others(name);
      const hung = mesh.now.mesh.service(name).running!;
      signalProcess(hung, 'SIGSTOP');
      try {
        await refusedInTime(create(), 'DEADLINE_EXCEEDED', 'SERVICE_UNAVAILABLE');
        if (name !== 'vm-runtime') expect(await guest.sh('echo there')).toBe('there');
      } finally {
        signalProcess(hung, 'SIGCONT');
      }
      await comesBack(name, pids, guest);
      expect(mesh.now.mesh.service(name).running?.pid).toBe(hung.pid);
    },
  );
});

endsWithoutLeaks(mesh);
