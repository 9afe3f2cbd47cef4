// grpcurl, which shares no code with Wrenn and knows nothing of it but what the services tell by reflection.
import { join } from 'node:path';

import { planServices } from '@wrenn/cli/mesh/service-plan';
import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { runProgram } from '@wrenn/kit/run-program';
import { describe, expect, test } from 'vitest';

import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();

describe('grpcurl', () => {
  const grpcurl = (address: string, ...args: string[]) => {
    const isUnix = address.startsWith('unix:');
    const flags = ['-plaintext', '-max-time', '30', ...(isUnix ? ['-unix'] : [])];
    const target = isUnix ? address.slice('unix:'.length) : address;
    return (data?: object) =>
      runProgram(join(repositoryRoot, '.build/bin/grpcurl'), [
        ...flags,
        ...(data ? ['-d', JSON.stringify(data)] : []),
        target,
        ...args,
      ]);
  };
  const expected: Record<string, readonly string[]> = {
    network: ['wrenn.network.v1.NetworkService'],
    'snapshot-store': ['wrenn.snapshotstore.v1.SnapshotStoreService'],
    scheduler: ['wrenn.scheduler.v1.SchedulerService', 'wrenn.v1.SandboxService', 'wrenn.v1.HostService'],
    'vm-runtime': ['wrenn.vmruntime.v1.VmRuntimeService', 'wrenn.v1.ProcessService', 'wrenn.v1.LogService'],
    gateway: ['wrenn.v1.SandboxService', 'wrenn.v1.ProcessService', 'wrenn.v1.LogService', 'wrenn.v1.HostService'],
  };
  const calls: Record<string, readonly [string, RegExp]> = {
    network: ['wrenn.network.v1.NetworkService/ListSlots', /"capacity": \d+/],
    'snapshot-store': ['wrenn.snapshotstore.v1.SnapshotStoreService/ListImages', /"name": "minimal"/],
    scheduler: ['wrenn.scheduler.v1.SchedulerService/ListTemplates', /"name": "minimal"/],
    'vm-runtime': ['wrenn.vmruntime.v1.VmRuntimeService/ListVms', /\{/],
    gateway: ['wrenn.v1.HostService/List', /"id": "local"/],
  };

  test.each(Object.keys(expected))('lists, describes and calls %s', async (name) => {
    const plan = planServices(mesh.now.mesh.options).find((one) => one.name === name);
    const address = plan?.address ?? '';
    const listed = (await grpcurl(address, 'list')()).trim().split('\n');
    expect(listed).toEqual(expect.arrayContaining([...(expected[name] ?? []), 'grpc.health.v1.Health']));
    for (const service of expected[name] ?? []) {
      expect(await grpcurl(address, 'describe', service)()).toContain(`service ${service.split('.').at(-1)} {`);
    }
    const [method, answer] = calls[name] ?? ['', /./];
    expect(await grpcurl(address, method)({})).toMatch(answer);
    expect(await grpcurl(address, 'grpc.health.v1.Health/Check')({})).toContain('SERVING');
  });

  test('lists, describes and calls the agent inside a guest', async () => {
    const guest = await mesh.now.create();
    const address = `${await guest.address()}:49983`;
    const listed = (await grpcurl(address, 'list')()).trim().split('\n');
    const services = ['process.Process', 'filesystem.Filesystem', 'wrenn.agent.v1.AgentService'];
    expect(listed).toEqual(expect.arrayContaining([...services, 'grpc.health.v1.Health']));
    expect(await grpcurl(address, 'describe', 'process.Process')()).toContain('rpc Start');
    expect(await grpcurl(address, 'grpc.health.v1.Health/Check')({})).toContain('SERVING');
    const started = await grpcurl(address, 'process.Process/Start')({ process: { cmd: 'echo', args: ['hi'] } });
    expect(started).toContain(`"stdout": "${Buffer.from('hi\n').toString('base64')}"`);
    expect(started).toContain('"exited": true');
    await guest.destroy();
  });

  test('creates a sandbox, runs a command and destroys it, with nothing but reflection', async () => {
    const address = mesh.now.mesh.addresses.gateway;
    const created = await grpcurl(address, 'wrenn.v1.SandboxService/Create')({ template: 'minimal' });
    const id = /"id": "(cl-[0-9a-z]{25})"/.exec(created)?.[1] ?? '';
    const process = { command: 'echo', args: ['hello'] };
    const ran = await grpcurl(address, 'wrenn.v1.ProcessService/Exec')({ sandbox_id: id, process });
    expect(ran).toContain(Buffer.from('hello\n').toString('base64'));
    await grpcurl(address, 'wrenn.v1.SandboxService/Destroy')({ sandbox_id: id });
  });
});

endsWithoutLeaks(mesh);
