// Clients that share no code with Wrenn: grpcurl, grpc-js with the .proto files, Python's grpcio.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { planServices } from '@wrenn/cli/mesh/service-plan';
import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { runProgram } from '@wrenn/kit/run-program';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { describe, expect, test } from 'vitest';

import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const protoDir = join(repositoryRoot, 'proto');

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

test('a grpc-js client made from the .proto files at run time creates a sandbox and streams a command', async () => {
  const definition = loadSync(['wrenn/v1/sandbox.proto', 'wrenn/v1/process.proto'], {
    includeDirs: [protoDir],
    defaults: true,
  });
  const loaded = loadPackageDefinition(definition) as unknown as LoadedPackage;
  const at = mesh.now.mesh.addresses.gateway;
  const sandboxes = new loaded.wrenn.v1.SandboxService(at, credentials.createInsecure());
  const processes = new loaded.wrenn.v1.ProcessService(at, credentials.createInsecure());
  const { sandbox } = await unary<{ sandbox: { id: string } }>(sandboxes, 'Create', { template: 'minimal' });
  const request = { sandboxId: sandbox.id, process: { command: '/bin/sh', args: ['-c', 'echo one; echo two'] } };
  const output: string[] = [];
  let exitCode = -1;
  for await (const { event } of processes.Start(request)) {
    if (event.stdout?.length) output.push(event.stdout.toString());
    if (event.exited) exitCode = event.exited.exitCode;
  }
  expect({ output: output.join(''), exitCode }).toEqual({ output: 'one\ntwo\n', exitCode: 0 });
  await unary(sandboxes, 'Destroy', { sandboxId: sandbox.id });
  const refused = unary(sandboxes, 'Get', { sandboxId: `cl-${'0'.repeat(25)}` });
  await expect(refused).rejects.toMatchObject({ code: 5 });
  sandboxes.close();
  processes.close();
});

test('a Python client generated from the .proto files does the same', async () => {
  await using dir = await tempDir();
  const python = join(repositoryRoot, '.build/venv/bin/python');
  const generated = join(dir.path, 'gen');
  await mkdir(generated);
  const protos = ['wrenn/v1/sandbox.proto', 'wrenn/v1/process.proto'];
  const outputs = [`--python_out=${generated}`, `--grpc_python_out=${generated}`];
  await runProgram(python, ['-m', 'grpc_tools.protoc', `-I${protoDir}`, ...outputs, ...protos]);
  const script = `
import sys, grpc
sys.path.insert(0, sys.argv[1])
from wrenn.v1 import sandbox_pb2, sandbox_pb2_grpc, process_pb2, process_pb2_grpc
with grpc.insecure_channel(sys.argv[2]) as channel:
    sandboxes = sandbox_pb2_grpc.SandboxServiceStub(channel)
    processes = process_pb2_grpc.ProcessServiceStub(channel)
    id = sandboxes.Create(sandbox_pb2.SandboxServiceCreateRequest(template='minimal'), timeout=120).sandbox.id
    spec = process_pb2.ProcessSpec(command='/bin/sh', args=['-c', 'echo one; echo two >&2; exit 4'])
    for answer in processes.Start(process_pb2.ProcessServiceStartRequest(sandbox_id=id, process=spec)):
        kind = answer.event.WhichOneof('event')
        value = getattr(answer.event, kind)
        print(kind, value.exit_code if kind == 'exited' else '' if kind == 'started' else value)
    sandboxes.Destroy(sandbox_pb2.SandboxServiceDestroyRequest(sandbox_id=id), timeout=60)
`;
  const env = { PATH: process.env['PATH'] ?? '' };
  const args = ['-c', script, generated, mesh.now.mesh.addresses.gateway];
  const printed = await runProgram(python, args, { timeoutMs: 150_000, env });
  const lines = printed.trim().split('\n');
  expect(lines[0]?.trim()).toBe('started');
  expect(lines.at(-1)).toBe('exited 4');
  expect(lines.slice(1, -1).toSorted()).toEqual(["stderr b'two\\n'", "stdout b'one\\n'"]);
});

interface DynamicClient {
  close(): void;
}
interface StreamedEvent {
  readonly event: { readonly stdout?: Buffer; readonly exited?: { readonly exitCode: number } | null };
}
type ClientClass<T> = new (address: string, creds: ReturnType<typeof credentials.createInsecure>) => T;
interface LoadedPackage {
  readonly wrenn: {
    readonly v1: {
      readonly SandboxService: ClientClass<DynamicClient>;
      readonly ProcessService: ClientClass<DynamicClient & { Start(request: object): AsyncIterable<StreamedEvent> }>;
    };
  };
}

function unary<T>(client: DynamicClient, method: string, request: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const call = Reflect.get(client, method) as (request: object, done: (error: unknown, answer: T) => void) => void;
    call.call(client, request, (error, answer) => (error ? reject(error as Error) : resolve(answer)));
  });
}

endsWithoutLeaks(mesh);
