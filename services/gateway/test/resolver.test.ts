import { once } from 'node:events';

import { newSandboxId } from '@wrenn/kit/ids';
import type { Call } from '@wrenn/kit/rpc-server';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { expect, test } from 'vitest';

import { LanePeer } from '../src/adapters/lane-peer.ts';
import { sandboxResolver } from '../src/adapters/sandbox-resolver.ts';
import { serveTcp } from './mesh-fixture.ts';

const patient = () => ({ signal: new AbortController().signal, deadlineAtMs: Date.now() + 10_000 });
const hang = async (_request: unknown, { signal }: Call) => {
  await once(signal, 'abort');
  return {};
};

test('a scheduler that hangs is unavailable long before the caller runs out of time', async () => {
  await using server = await serveTcp((serve) => serve(SchedulerService, { resolveSandbox: hang }));
  const scheduler = new LanePeer(server.address, 'scheduler', 'control');
  await expect(
    sandboxResolver(scheduler, { silentMs: 100, wakeMs: 5000 })(newSandboxId(), patient()),
  ).rejects.toMatchObject({
    reason: 'SERVICE_UNAVAILABLE',
  });
  scheduler.close();
});

test('a wake that outlasts its limit is unavailable for a caller who has more time', async () => {
  const resolveSandbox = async (request: unknown, call: Call) => {
    call.sendHeader();
    return hang(request, call);
  };
  await using server = await serveTcp((serve) => serve(SchedulerService, { resolveSandbox }));
  const scheduler = new LanePeer(server.address, 'scheduler', 'control');
  const limits = { silentMs: 5000, wakeMs: 200 };
  await expect(sandboxResolver(scheduler, limits)(newSandboxId(), patient())).rejects.toMatchObject({
    reason: 'SERVICE_UNAVAILABLE',
  });
  scheduler.close();
});

test('a scheduler that says it is at work is waited for, longer than for a silent one', async () => {
  let waitFor = Promise.resolve();
  const resolveSandbox = async (_request: unknown, call: Call) => {
    call.header.set('wrenn-waking', '1');
    call.sendHeader();
    await waitFor;
    return { hostAddress: 'h:1', hostBulkAddress: 'h:2' };
  };
  await using server = await serveTcp((serve) => serve(SchedulerService, { resolveSandbox }));
  const scheduler = new LanePeer(server.address, 'scheduler', 'control');
  // Connected beforehand, so that what is measured is the answer.
  await sandboxResolver(scheduler)(newSandboxId(), patient());
  const slow = Promise.withResolvers<void>();
  waitFor = slow.promise;
  const resolved = sandboxResolver(scheduler, { silentMs: 1000, wakeMs: 5000 })(newSandboxId(), patient());
  // Longer than a silent one is waited for.
  setTimeout(() => slow.resolve(), 1500);
  expect(await resolved).toEqual({ interactive: 'h:1', bulk: 'h:2' });
  scheduler.close();
});

test('a caller who has run out of time is told so', async () => {
  await using server = await serveTcp((serve) => serve(SchedulerService, { resolveSandbox: hang }));
  const scheduler = new LanePeer(server.address, 'scheduler', 'control');
  const hurried = { ...patient(), deadlineAtMs: Date.now() + 100 };
  await expect(sandboxResolver(scheduler)(newSandboxId(), hurried)).rejects.toMatchObject({
    reason: 'DEADLINE_EXCEEDED',
  });
  scheduler.close();
});
