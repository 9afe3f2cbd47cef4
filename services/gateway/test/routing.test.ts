import { readlink, readdir } from 'node:fs/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { HostService } from '@wrenn/proto/wrenn/v1/host';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';
import { expect, test } from 'vitest';

import { serveTcp, startGateway } from './mesh-fixture.ts';

const id = newSandboxId();

// What a stand-in vm-runtime has and has done.
class HostState {
  hasSandbox = true;
  ranCount = 0;

  serve(port = 0) {
    const run = async () => {
      if (!this.hasSandbox) throw new WrennError('SANDBOX_NOT_FOUND', 'not on this host');
      this.ranCount += 1;
      return {};
    };
    return serveTcp((serve) => serve(ProcessService, { exec: run, list: run }), port);
  }
}

// A stand-in scheduler that knows where the one sandbox is.
function serveScheduler(where: { address: string; askedCount?: number }, port = 0) {
  return serveTcp((serve) => {
    serve(HostService, { list: async () => ({}) });
    serve(SchedulerService, {
      resolveSandbox: async () => {
        where.askedCount = (where.askedCount ?? 0) + 1;
        return { hostAddress: where.address };
      },
    });
  }, port);
}

test('a sandbox that has moved is found again by a command that then runs once', async () => {
  const [oldState, newState] = [new HostState(), new HostState()];
  await using oldHost = await oldState.serve();
  await using newHost = await newState.serve();
  const where = { address: oldHost.address, askedCount: 0 };
  await using scheduler = await serveScheduler(where);
  await using gateway = await startGateway(scheduler.address);
  const processes = gateway.lanes.client('interactive', ProcessService);
  await processes.exec({ sandboxId: id }, inMs(5000));
  await processes.exec({ sandboxId: id }, inMs(5000));
  expect(where.askedCount).toBe(1);
  oldState.hasSandbox = false;
  where.address = newHost.address;
  await processes.exec({ sandboxId: id }, inMs(5000));
  expect([oldState.ranCount, newState.ranCount, where.askedCount]).toEqual([2, 1, 2]);
});

test('a vm-runtime that is down answers UNAVAILABLE at once and is used again when it is back', async () => {
  const state = new HostState();
  const first = await state.serve();
  await using scheduler = await serveScheduler({ address: first.address });
  await using gateway = await startGateway(scheduler.address);
  const processes = gateway.lanes.client('interactive', ProcessService);
  await processes.exec({ sandboxId: id }, inMs(5000));
  await first[Symbol.asyncDispose]();
  // Not at its deadline, which would be another reason.
  await expect(processes.exec({ sandboxId: id }, inMs(5000))).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  await using _back = await state.serve(first.port);
  await eventually('the vm-runtime is reached again', async () => {
    await processes.exec({ sandboxId: id }, inMs(1000));
    return true;
  });
});

test('a scheduler that is down answers UNAVAILABLE, spares known sandboxes and is used again when it is back', async () => {
  await using host = await new HostState().serve();
  const where = { address: host.address };
  const first = await serveScheduler(where);
  await using gateway = await startGateway(first.address);
  const processes = gateway.lanes.client('interactive', ProcessService);
  const hosts = gateway.lanes.client('control', HostService);
  await processes.exec({ sandboxId: id }, inMs(5000));
  await first[Symbol.asyncDispose]();
  await expect(hosts.list({}, inMs(5000))).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  await expect(processes.list({ sandboxId: newSandboxId() }, inMs(5000))).rejects.toMatchObject({
    reason: 'SERVICE_UNAVAILABLE',
  });
  await processes.exec({ sandboxId: id }, inMs(5000));
  await using _back = await serveScheduler(where, first.port);
  await eventually('the scheduler is reached again', async () => {
    await hosts.list({}, inMs(1000));
    return true;
  });
});

test('control and interactive calls to one address travel in two connections, however many they are', async () => {
  const where = { address: '' };
  await using all = await serveTcp((serve) => {
    serve(SandboxService, { get: async () => ({}) });
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: where.address }) });
    serve(ProcessService, { exec: async () => ({}) });
  });
  where.address = all.address;
  await using gateway = await startGateway(all.address);
  const sandboxes = gateway.lanes.client('control', SandboxService);
  await sandboxes.get({ sandboxId: id }, inMs(5000));
  expect(await connectionsTo(all.port)).toBe(1);
  const processes = gateway.lanes.client('interactive', ProcessService);
  const ids = Array.from({ length: 20 }, () => newSandboxId());
  await Promise.all(ids.map((sandboxId) => processes.exec({ sandboxId }, inMs(5000))));
  await Promise.all(ids.map((sandboxId) => sandboxes.get({ sandboxId }, inMs(5000))));
  expect(await connectionsTo(all.port)).toBe(2);
});

test('the connection to a host is closed once it is idle and opened again on demand', async () => {
  await using host = await new HostState().serve();
  await using scheduler = await serveScheduler({ address: host.address });
  await using gateway = await startGateway(scheduler.address, 20);
  const processes = gateway.lanes.client('interactive', ProcessService);
  await processes.list({ sandboxId: id }, inMs(5000));
  await eventually('the connection is closed', async () => (await connectionsTo(host.port)) === 0);
  await processes.list({ sandboxId: id }, inMs(5000));
});

test('calls, refusals and abandoned streams leave no descriptor behind', async () => {
  const state = new HostState();
  await using host = await state.serve();
  await using scheduler = await serveScheduler({ address: host.address });
  await using gateway = await startGateway(scheduler.address);
  const processes = gateway.lanes.client('interactive', ProcessService);
  const round = async () => {
    await processes.exec({ sandboxId: id }, inMs(5000));
    const leave = new AbortController();
    const call = processes.list({ sandboxId: newSandboxId() }, inMs(5000, leave.signal));
    leave.abort();
    await expect(call).rejects.toMatchObject({ reason: 'CANCELLED' });
  };
  await round();
  const before = await socketCount();
  for (let n = 0; n < 50; n++) await round();
  expect(await socketCount()).toBe(before);
});

// Established connections to a local port, as the kernel counts them on the server's side.
async function connectionsTo(port: number): Promise<number> {
  const lines = await runProgram('ss', ['-Htn', 'state', 'established', `( sport = :${port} )`]);
  return lines.split('\n').filter((line) => line.trim() !== '').length;
}

async function socketCount(): Promise<number> {
  const fds = await readdir('/proc/self/fd');
  const targets = await Promise.all(fds.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return targets.filter((target) => target.startsWith('socket:')).length;
}
