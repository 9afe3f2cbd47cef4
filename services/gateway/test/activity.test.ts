import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { expect, test } from 'vitest';

import { serveTcp, startGateway } from './mesh-fixture.ts';

const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));

async function meshWith(reportActivity: (ids: string[]) => Promise<void>) {
  const host = await serveTcp((serve) => {
    serve(ProcessService, {
      exec: async () => ({}),
      connect: async function* silent(_request, call) {
        call.sendHeader();
        await untilAborted(call.signal);
        yield {};
      },
    });
    serve(LogService, { readConsole: async () => ({}) });
  });
  const scheduler = await serveTcp((serve) =>
    serve(SchedulerService, {
      resolveSandbox: async () => ({ hostAddress: host.address }),
      reportActivity: async ({ sandboxIds }) => {
        await reportActivity(sandboxIds);
        return {};
      },
    }),
  );
  const gateway = await startGateway(scheduler.address);
  return {
    processes: gateway.lanes.client('interactive', ProcessService),
    logs: gateway.lanes.client('bulk', LogService),
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await scheduler[Symbol.asyncDispose]();
      await host[Symbol.asyncDispose]();
    },
  };
}

test('a call into a sandbox is told of, and a look at its console is not', async () => {
  const told: string[] = [];
  await using mesh = await meshWith(async (ids) => void told.push(...ids));
  const [used, looked] = [newSandboxId(), newSandboxId()];
  await mesh.logs.readConsole({ sandboxId: looked }, inMs(5000));
  await mesh.processes.exec({ sandboxId: used }, inMs(5000));
  await eventually('it was told', () => told.includes(used));
  expect(told).not.toContain(looked);
});

test('a stream on which nothing happens is told of as long as it is open, and not after', async () => {
  const told: string[] = [];
  await using mesh = await meshWith(async (ids) => void told.push(...ids));
  const [streaming, other] = [newSandboxId(), newSandboxId()];
  const countOf = (id: string) => told.filter((each) => each === id).length;
  const abort = new AbortController();
  const stream = mesh.processes.connect({ sandboxId: streaming }, { signal: abort.signal });
  const reading = (async () => {
    for await (const _event of stream) throw new Error('it is silent');
  })().catch((error: unknown) => error);
  await eventually('it was told of again and again', () => countOf(streaming) >= 5);
  abort.abort();
  await reading;
  const stop = new AbortController();
  const second = (async () => {
    for await (const _event of mesh.processes.connect({ sandboxId: other }, { signal: stop.signal })) continue;
  })().catch((error: unknown) => error);
  await eventually('others are told of', () => countOf(other) >= 2);
  const atEnd = countOf(streaming);
  await eventually('others are told of again', () => countOf(other) >= 7);
  expect(countOf(streaming)).toBe(atEnd);
  stop.abort();
  await second;
});

test('a scheduler that hangs or fails delays no call', async () => {
  const gate = Promise.withResolvers<void>();
  let reports = 0;
  await using mesh = await meshWith(async () => {
    reports += 1;
    await gate.promise;
    throw new Error('broken');
  });
  const sandboxId = newSandboxId();
  await mesh.processes.exec({ sandboxId }, inMs(5000));
  await eventually('a report hangs', () => reports === 1);
  for (let i = 0; i < 20; i++) await mesh.processes.exec({ sandboxId }, inMs(5000));
  gate.resolve();
  await mesh.processes.exec({ sandboxId }, inMs(5000));
  await eventually('it is tried again', () => reports >= 2);
});
