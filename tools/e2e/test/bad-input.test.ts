// What a caller gets who asks for what cannot be: a gRPC code, a reason, the field, and nothing left behind. Each
// is read off the wire, as a client in any language gets it. What needs no VM here needs none to be refused.
import { type DescMethod, type DescService, ScalarType } from '@bufbuild/protobuf';
import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { HostService } from '@wrenn/proto/wrenn/v1/host';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { PortService } from '@wrenn/proto/wrenn/v1/port';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';
import { connect } from 'node:net';
import { beforeAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';
import { framed, verdictOf, verdictOfBytes } from '../src/wire.ts';

const mesh = useMesh();
let guest: Guest;
let gateway: string;
let bulk: string;
beforeAll(async () => {
  guest = await mesh.now.create();
  ({ gateway, gatewayBulk: bulk } = mesh.now.mesh.addresses);
});

const MiB = 2n ** 20n;
const unknownId = `cl-${'0'.repeat(25)}`;
const invalid = (field: string) => ({ code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', meta: { field } });
const publicServices: readonly DescService[] = [
  SandboxService,
  HostService,
  ProcessService,
  LogService,
  FilesystemService,
  PortService,
];
const publicMethods = publicServices.flatMap(({ methods }) => methods);
const pathOf = (method: DescMethod) => `/${method.parent.typeName}/${method.name}`;

describe('Create refuses, and makes nothing', () => {
  const day = 86_400_000;
  test.each([
    ['an unknown template', { template: 'no-such' }, { code: 'NOT_FOUND', reason: 'TEMPLATE_NOT_FOUND' }],
    ['no template', { template: '' }, invalid('template')],
    ['a template name with bad characters', { template: '../minimal' }, invalid('template')],
    ['33 vcpus', { vcpuCount: 33 }, invalid('vcpu_count')],
    ['less than 96 MiB of memory', { memoryBytes: 94n * MiB }, invalid('memory_bytes')],
    ['more than 64 GiB of memory', { memoryBytes: 65_538n * MiB }, invalid('memory_bytes')],
    ['memory that is no multiple of 2 MiB', { memoryBytes: 101n * MiB }, invalid('memory_bytes')],
    ['a disk beyond 1 TiB', { diskBytes: 2n ** 40n + MiB }, invalid('disk_bytes')],
    ['a disk that is no multiple of 1 MiB', { diskBytes: 2n ** 30n + 1n }, invalid('disk_bytes')],
    ['a ttl of half a second', { ttl: durationOfMs(500) }, invalid('ttl')],
    ['a ttl beyond a day', { ttl: durationOfMs(day + 1000) }, invalid('ttl')],
    ['a negative ttl', { ttl: { seconds: -1n, nanos: 0 } }, invalid('ttl')],
    ['a wait beyond ten minutes', { queueTimeout: durationOfMs(601_000) }, invalid('queue_timeout')],
    ['a variable that is no name', { env: { '1A': 'x' } }, invalid('env')],
    ['a variable with a NUL', { env: { A: 'a\0b' } }, invalid('env')],
    ['more than 64 KiB of variables', { env: { A: 'x'.repeat(65_536) } }, invalid('env')],
    ['33 labels', { metadata: labels(33) }, invalid('metadata')],
    ['a label of 257 characters', { metadata: { a: 'x'.repeat(257) } }, invalid('metadata')],
    ['a request id with a space', { requestId: 'a b' }, invalid('request_id')],
    ['a project with capitals', { project: 'Mine' }, invalid('project')],
  ])('%s', async (_what, request, verdict) => {
    const before = await recordCount();
    const message = { template: 'minimal', ...request };
    expect(await verdictOf(gateway, SandboxService.method.create, message)).toMatchObject(verdict);
    expect(await recordCount()).toBe(before);
  });

  // How large an image is only its host knows: the sandbox is an error on record then, and nothing more.
  test('a disk smaller than the image', async () => {
    const message = { template: 'minimal', diskBytes: MiB };
    expect(await verdictOf(gateway, SandboxService.method.create, message)).toMatchObject(invalid('disk_bytes'));
    const living = await Array.fromAsync(mesh.now.client.list(), ({ id }) => id);
    expect(living).toEqual([guest.id]);
  });

  const recordCount = async () => {
    const { sandboxes } = await mesh.now.client.sandboxes.list(
      { states: [1, 2, 3, 7, 8, 9], pageSize: 1000 },
      inMs(10_000),
    );
    return sandboxes.length;
  };
});

function labels(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`l${i}`, 'x']));
}

describe('a sandbox that is none is refused by every rpc that names one', () => {
  const naming = publicMethods.filter(({ input }) => input.fields.some(({ name }) => name === 'sandbox_id'));
  // An address needs no sandbox to be looked at; what is wrong with the rest of a request comes second.
  const valid: Readonly<Record<string, object>> = {
    SetTimeout: { ttl: durationOfMs(60_000) },
    Exec: { process: { command: 'id' } },
    Start: { process: { command: 'id' } },
    Connect: { process: { selector: { case: 'pid', value: 1 } } },
    SendInput: { process: { selector: { case: 'pid', value: 1 } }, data: Buffer.from('x') },
    CloseStdin: { process: { selector: { case: 'pid', value: 1 } } },
    Signal: { process: { selector: { case: 'pid', value: 1 } }, signal: 9 },
    Move: { source: '/a', destination: '/b' },
    SignUrl: { path: '/a', operation: 1 },
  };
  test.each(naming.map((method) => [pathOf(method), method] as const))('%s', async (_path, method) => {
    const address = method === FilesystemService.method.read ? bulk : gateway;
    const rest = valid[method.name] ?? (method.parent === FilesystemService ? { path: '/a' } : {});
    const asked = (sandboxId: string) => verdictOf(address, method, { sandboxId, ...rest });
    for (const nonsense of ['x', '../../etc', `${unknownId}x`]) {
      expect(await asked(nonsense)).toMatchObject(invalid('sandbox_id'));
    }
    if (method === SandboxService.method.watchEvents) return; // One may wait for a sandbox to come.
    expect(await asked(unknownId)).toMatchObject({ code: 'NOT_FOUND', reason: 'SANDBOX_NOT_FOUND' });
  });
});

describe('a command that cannot be run is refused, by Exec and Start alike', () => {
  const { exec, start } = ProcessService.method;
  test.each([
    ['unknown', { command: 'no-such-command' }, { code: 'NOT_FOUND', reason: 'COMMAND_NOT_FOUND' }],
    ['an unknown path', { command: '/no/such' }, { code: 'NOT_FOUND', reason: 'COMMAND_NOT_FOUND' }],
    ['not executable', { command: '/etc/passwd' }, { code: 'FAILED_PRECONDITION', reason: 'COMMAND_NOT_EXECUTABLE' }],
    ['a directory', { command: '/tmp' }, { code: 'FAILED_PRECONDITION', reason: 'COMMAND_NOT_EXECUTABLE' }],
    ['of an unknown user', { command: 'id', user: 'stranger' }, { code: 'INVALID_ARGUMENT', reason: 'USER_NOT_FOUND' }],
    ['of a user name that is none', { command: 'id', user: 'a:b' }, invalid('process.user')],
    [
      'in a missing directory',
      { command: 'id', cwd: '/no/such' },
      { code: 'INVALID_ARGUMENT', reason: 'CWD_NOT_FOUND' },
    ],
    ['in a file', { command: 'id', cwd: '/etc/passwd' }, { code: 'INVALID_ARGUMENT', reason: 'CWD_NOT_FOUND' }],
    ['in a relative directory', { command: 'id', cwd: 'tmp' }, invalid('process.cwd')],
    ['empty', { command: '' }, invalid('process.command')],
    ['longer than 4096 bytes', { command: 'x'.repeat(4097) }, invalid('process.command')],
    ['with a NUL', { command: 'a\0b' }, invalid('process.command')],
    ['with 1025 arguments', { command: 'id', args: Array.from({ length: 1025 }, () => 'x') }, invalid('process.args')],
    ['with 129 KiB of arguments', { command: 'id', args: ['x'.repeat(129 * 1024)] }, invalid('process.args')],
    ['with a variable that is no name', { command: 'id', env: { 'A B': 'x' } }, invalid('process.env')],
  ])('%s', async (_what, process, verdict) => {
    const request = { sandboxId: guest.id, process };
    expect(await verdictOf(gateway, exec, request)).toMatchObject(verdict);
    expect(await verdictOf(gateway, start, request)).toMatchObject(verdict);
  });

  test.each([
    ['no command at all', exec, {}, invalid('process')],
    ['a timeout of nothing', exec, { process: { command: 'id' }, timeout: durationOfMs(0) }, invalid('timeout')],
    [
      'a timeout beyond a day',
      exec,
      { process: { command: 'id' }, timeout: durationOfMs(86_401_000) },
      invalid('timeout'),
    ],
    [
      'a cap beyond 3 MiB',
      exec,
      { process: { command: 'id' }, maxOutputBytes: 3n * MiB + 1n },
      invalid('max_output_bytes'),
    ],
    ['input beyond 2 MiB', exec, { process: { command: 'id' }, stdin: new Uint8Array(2_097_153) }, invalid('stdin')],
    ['a tag with a slash', start, { process: { command: 'id' }, tag: 'a/b' }, invalid('tag')],
  ])('%s', async (_what, method, request, verdict) => {
    expect(await verdictOf(gateway, method, { sandboxId: guest.id, ...request })).toMatchObject(verdict);
  });

  test.each([
    ['no process', {}, invalid('process')],
    ['pid 0', { process: { selector: { case: 'pid' as const, value: 0 } } }, invalid('process.pid')],
    ['a tag with a space', { process: { selector: { case: 'tag' as const, value: 'a b' } } }, invalid('process.tag')],
    ['signal 65', { process: { selector: { case: 'pid' as const, value: 1 } }, signal: 65 }, invalid('signal')],
    [
      'a process that is not there',
      { process: { selector: { case: 'pid' as const, value: 99_999 } } },
      { code: 'NOT_FOUND', reason: 'PROCESS_NOT_FOUND' },
    ],
  ])('Signal to %s', async (_what, request, verdict) => {
    const message = { sandboxId: guest.id, signal: 9, ...request };
    expect(await verdictOf(gateway, ProcessService.method.signal, message)).toMatchObject(verdict);
  });
});

test('a command that runs into its timeout, or writes beyond the cap, is an answer with what came, not an error', async () => {
  const slow = await guest.exec('/bin/sh', ['-c', 'echo partial; echo sorry >&2; sleep 600'], { timeoutMs: 1500 });
  expect(slow).toMatchObject({ isTimedOut: true, exitCode: 137, signal: 9, out: 'partial\n', err: 'sorry\n' });
  const loud = await guest.exec('/bin/sh', ['-c', 'head -c 200000 /dev/zero; echo end >&2'], { maxOutputBytes: 1000n });
  expect(loud).toMatchObject({ isTruncated: true, isTimedOut: false, exitCode: 0 });
  expect(loud.stdout.length + loud.stderr.length).toBe(1000);
  expect(await guest.count('sleep 600')).toBe(0);
});

describe('bytes that are no message are refused by every rpc, at both gateways', () => {
  const broken: readonly (readonly [string, Uint8Array])[] = [
    ['a field cut short', Buffer.from([10, 200, 1])],
    ['an endless varint', Buffer.alloc(20, 0xff)],
    ['text that is not UTF-8', Buffer.from([10, 2, 0xc3, 0x28])],
    ['random bytes', Buffer.from('0badc0dedeadbeef0badc0dedeadbeef', 'hex')],
  ];
  test.each(broken)('%s', async (what, bytes) => {
    // What has no field of text takes any bytes in its place for one that it does not know yet.
    const taking = publicMethods.filter(({ input }) => what !== 'text that is not UTF-8' || firstIsText(input.fields));
    for (const address of [gateway, bulk]) {
      for (const method of taking) {
        const verdict = await verdictOfBytes(address, pathOf(method), framed(bytes));
        expect(verdict, pathOf(method)).toMatchObject(invalid('request'));
      }
    }
  });

  test('a field of another wire type', async () => {
    // A string as a 64-bit number, and a number as a string.
    const text = Buffer.from([0x09, 1, 2, 3, 4, 5, 6, 7, 8]);
    const withText = publicMethods.filter(({ input }) => firstIsText(input.fields));
    expect(withText.length).toBeGreaterThan(15);
    for (const method of withText) {
      const verdict = await verdictOfBytes(gateway, pathOf(method), framed(text));
      expect(verdict, pathOf(method)).toMatchObject(invalid('request'));
    }
    const count = Buffer.concat([Buffer.from([0x0a, 7]), Buffer.from('minimal'), Buffer.from([0x12, 2, 0x18, 0])]);
    const create = pathOf(SandboxService.method.create);
    expect(await verdictOfBytes(gateway, create, framed(count))).toMatchObject(invalid('request'));
  });

  const firstIsText = (fields: DescMethod['input']['fields']) =>
    fields.some(({ number, scalar }) => number === 1 && scalar === ScalarType.STRING);
});

describe('what is no gRPC call is answered or cut, and costs others nothing', () => {
  const exec = pathOf(ProcessService.method.exec);
  const nothing = Buffer.alloc(0);
  const compressed = Buffer.from([1, 0, 0, 0, 1, 5]);
  test.each([
    ['a message over 4 MiB', exec, framed(Buffer.alloc(5 * 2 ** 20)), {}, 'RESOURCE_EXHAUSTED'],
    ['a length that promises more than comes', exec, framed(Buffer.alloc(100)).subarray(0, 50), {}, 'UNIMPLEMENTED'],
    ['half a length', exec, Buffer.from([0, 0]), {}, 'UNIMPLEMENTED'],
    ['no message', exec, Buffer.alloc(0), {}, 'UNIMPLEMENTED'],
    ['two messages for one', exec, Buffer.concat([framed(nothing), framed(nothing)]), {}, 'UNIMPLEMENTED'],
    ['a compressed one that is not', exec, compressed, { 'grpc-encoding': 'gzip' }, 'INTERNAL'],
    ['a method that is not there', '/wrenn.v1.ProcessService/Nope', framed(nothing), {}, 'UNIMPLEMENTED'],
    ['a service that is not there', '/wrenn.v9.Nope/Exec', framed(nothing), {}, 'UNIMPLEMENTED'],
    ['a time limit that is none', exec, framed(nothing), { 'grpc-timeout': 'soon' }, 'INTERNAL'],
    ['a body of another type', exec, framed(nothing), { 'content-type': 'text/plain' }, 'cut'],
  ])('%s', async (_what, path, body, headers, code) => {
    for (const address of [gateway, bulk]) {
      expect((await verdictOfBytes(address, path, body, headers)).code).toBe(code);
    }
    expect(await guest.sh('echo well')).toBe('well');
  });

  test('HTTP/1.1, and bytes of no protocol', async () => {
    for (const address of [gateway, bulk]) {
      for (const text of ['GET / HTTP/1.1\r\nHost: x\r\n\r\n', '\0\xff'.repeat(5000)]) await speak(address, text);
    }
    expect(await guest.sh('echo well')).toBe('well');
  });

  // Resolves once the other side has closed.
  function speak(address: string, text: string): Promise<void> {
    const [host = '', port] = address.split(':');
    return new Promise((resolve) => {
      const socket = connect(Number(port), host, () => socket.write(text, 'latin1'));
      socket
        .on('error', () => undefined)
        .on('close', () => resolve())
        .resume();
    });
  }
});

test('clients that leave in mid-stream leave no watch open, and nobody waiting for them', async () => {
  const inside = (script: string) => guest.sh(script, { user: 'root' });
  const watches = () => inside('ls -l /proc/1/fd | grep -c inotify || true');
  const before = await watches();
  const leave = new AbortController();
  const { processes, files } = mesh.now.client;
  const at = { sandboxId: guest.id };
  const request = { ...at, process: { command: 'yes', args: ['left'] }, tag: 'left' };
  const running = [
    processes.start(request, { signal: leave.signal }),
    files.watch({ ...at, path: '/tmp', isRecursive: true }, { signal: leave.signal }),
  ].map((stream) => (stream as AsyncIterable<unknown>)[Symbol.asyncIterator]());
  await Promise.all(running.map((stream) => stream.next()));
  expect(await watches()).not.toBe(before);
  leave.abort();
  await eventually('the watch is closed', async () => (await watches()) === before);
  // Who reads slows a process down; who has left must not.
  const written = () => inside("awk '/^wchar/ { print $2 }' /proc/$(pidof yes)/io");
  const first = Number(await written());
  await eventually('it writes on', async () => Number(await written()) > first + 4 * 2 ** 20, 20_000);
  const process = { selector: { case: 'tag' as const, value: 'left' } };
  await processes.signal({ ...at, process, signal: 9 }, inMs(10_000));
  await eventually('it is gone', async () => (await guest.count('yes left')) === 0);
});

test('after all that no service has been restarted', () => {
  for (const name of ['gateway', 'gateway-bulk', 'scheduler', 'vm-runtime', 'network', 'snapshot-store'] as const) {
    expect(mesh.now.mesh.service(name).restartCount, name).toBe(0);
  }
});

endsWithoutLeaks(mesh);
