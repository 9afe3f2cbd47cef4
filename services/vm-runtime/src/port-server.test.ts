import { newSandboxId } from '@wrenn/kit/ids';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { AgentService } from '@wrenn/proto/wrenn/agent/v1/agent';
import { PortService } from '@wrenn/proto/wrenn/v1/port';
import { expect, test } from 'vitest';

import { startAgent } from '../test/stand-in-agent.ts';
import { GrpcAgentDialer } from './adapters/grpc-guest-agent.ts';
import type { RunningVm } from './domain/vm.ts';
import { portHandlers } from './port-server.ts';

test('tells of the ports that the agent tells of, in order, and of none that cannot be', async () => {
  const changes = [
    { case: 'opened' as const, value: { port: 80, isLoopbackOnly: false } },
    { case: 'opened' as const, value: { port: 0 } },
    { case: 'opened' as const, value: { port: 70_000 } },
    { case: 'opened' as const, value: { port: 8888, isLoopbackOnly: true } },
    { case: undefined },
    { case: 'closed' as const, value: { port: 80, isLoopbackOnly: false } },
  ];
  await using standIn = await startAgent({
    rpc: (add) =>
      add(AgentService, {
        async *watchPorts() {
          for (const change of changes) yield { change };
        },
      }),
  });
  const agent = new GrpcAgentDialer().dial(standIn.address, '');
  await using server = await serveForTest(
    PortService,
    portHandlers({ serving: async () => ({ agent }) as unknown as RunningVm }),
  );
  const client = server.lanes.client('interactive', PortService);
  const told = await Array.fromAsync(client.watch({ sandboxId: newSandboxId() }));
  expect(told.map(({ change }) => [change.case, change.value?.port, change.value?.isLoopbackOnly])).toEqual([
    ['opened', 80, false],
    ['opened', 8888, true],
    ['closed', 80, false],
  ]);
  await expect(Array.fromAsync(client.watch({ sandboxId: 'x' }))).rejects.toMatchObject({ reason: 'INVALID_FIELD' });
  agent.close('VMM_DIED');
});

test('an agent that has gone silent or away gives no sign', async () => {
  const standIn = await startAgent({});
  const agent = new GrpcAgentDialer().dial(standIn.address, '');
  expect(await agent.isAnswering(5000)).toBe(true);
  await standIn[Symbol.asyncDispose]();
  expect(await agent.isAnswering(300)).toBe(false);
  agent.close('VMM_DIED');
});
