// A client on plain @grpc/grpc-js with the .proto files loaded at run time. ../README.md says what it does.
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';

import { type ServiceError, credentials, loadPackageDefinition, status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const protoDir = join(import.meta.dirname, '../../../../proto');
const messageBytes = 256 * 1024;
const diskBytes = 3 * 2 ** 30;
const [gateway = '', gatewayBulk = '', bytesText = '', seed = ''] = process.argv.slice(2);
const fileBytes = Number(bytesText);

interface ProcessEvent {
  readonly event: 'started' | 'stdout' | 'stderr' | 'exited';
  readonly stdout?: Buffer;
  readonly stderr?: Buffer;
  readonly exited?: { readonly exitCode: number };
}
interface ReadPart {
  readonly part: 'opened' | 'data';
  readonly data?: Buffer;
}
type Done<T> = (error: ServiceError | null, answer: T) => void;
type Unary<T> = (request: object, done: Done<T>) => void;
interface Readable<T> extends AsyncIterable<T> {
  cancel(): void;
}
interface WriteCall {
  write(message: object): boolean;
  end(): void;
  once(event: 'drain', listener: () => void): this;
  cancel(): void;
}
type Client<T> = new (
  address: string,
  security: ReturnType<typeof credentials.createInsecure>,
) => T & { close(): void };
interface Api {
  readonly SandboxService: Client<{
    Create: Unary<{ sandbox: { id: string } }>;
    Destroy: Unary<object>;
    Get: Unary<{ sandbox: { state: string } }>;
  }>;
  readonly ProcessService: Client<{
    Exec: Unary<{ stdout: Buffer }>;
    Start: (request: object) => Readable<{ event: ProcessEvent }>;
  }>;
  readonly FilesystemService: Client<{
    Read: (request: object) => Readable<ReadPart>;
    Write: (done: Done<{ entry: { sizeBytes: string } }>) => WriteCall;
  }>;
}

const definition = loadSync(
  ['sandbox', 'process', 'filesystem'].map((name) => `wrenn/v1/${name}.proto`),
  { includeDirs: [protoDir], defaults: false, oneofs: true, longs: String, enums: String },
);
const api = (loadPackageDefinition(definition) as unknown as { wrenn: { v1: Api } }).wrenn.v1;
const security = credentials.createInsecure();
const sandboxes = new api.SandboxService(gateway, security);
const processes = new api.ProcessService(gateway, security);
const files = new api.FilesystemService(gatewayBulk, security);

function call<T>(method: Unary<T>, request: object): Promise<T> {
  return new Promise((resolve, reject) => {
    method(request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// The same bytes for the same seed, which nothing can compress.
function* pseudoRandom(name: string, byteCount: number): Generator<Buffer, void, undefined> {
  const key = createHash('sha256').update(`${seed} ${name}`).digest();
  const cipher = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16));
  const zeros = Buffer.alloc(messageBytes);
  for (let left = byteCount; left > 0; left -= messageBytes) {
    yield cipher.update(left < messageBytes ? zeros.subarray(0, left) : zeros);
  }
}

function beginWrite(sandboxId: string, path: string) {
  const { promise, resolve, reject } = Promise.withResolvers<{ entry: { sizeBytes: string } }>();
  const stream = files.Write((error, answer) => (error ? reject(error) : resolve(answer)));
  stream.write({ start: { sandboxId, path } });
  return { stream, answer: promise };
}

async function send(stream: WriteCall, data: Iterable<Buffer>): Promise<void> {
  for (const chunk of data) if (!stream.write({ data: chunk })) await once(stream as never, 'drain');
}

async function codeOf(outcome: Promise<unknown>): Promise<number> {
  try {
    await outcome;
    return status.OK;
  } catch (error) {
    return (error as ServiceError).code;
  }
}

async function streamedCommand(sandboxId: string) {
  const args = ['-c', 'echo one; echo two >&2; exit 4'];
  const said = { kinds: [] as string[], stdout: '', stderr: '', exitCode: -1 };
  for await (const { event } of processes.Start({ sandboxId, process: { command: '/bin/sh', args } })) {
    said.kinds.push(event.event);
    said.stdout += event.stdout?.toString() ?? '';
    said.stderr += event.stderr?.toString() ?? '';
    said.exitCode = event.exited?.exitCode ?? said.exitCode;
  }
  return said;
}

async function write(sandboxId: string, path: string) {
  const startedAtMs = performance.now();
  const hash = createHash('sha256');
  const { stream, answer } = beginWrite(sandboxId, path);
  for (const chunk of pseudoRandom(path, fileBytes)) {
    hash.update(chunk);
    await send(stream, [chunk]);
  }
  stream.write({ finish: {} });
  stream.end();
  const { entry } = await answer;
  const seconds = (performance.now() - startedAtMs) / 1000;
  return { bytes: Number(entry.sizeBytes), sha256: hash.digest('hex'), seconds };
}

async function read(sandboxId: string, path: string) {
  const startedAtMs = performance.now();
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const { data } of files.Read({ sandboxId, path })) {
    if (!data) continue;
    hash.update(data);
    bytes += data.length;
  }
  return { bytes, sha256: hash.digest('hex'), seconds: (performance.now() - startedAtMs) / 1000 };
}

async function cancelledWrite(sandboxId: string, path: string): Promise<number> {
  const { stream, answer } = beginWrite(sandboxId, path);
  const code = codeOf(answer);
  await send(stream, pseudoRandom(path, fileBytes / 4));
  stream.cancel();
  return code;
}

async function cancelledRead(sandboxId: string, path: string): Promise<number> {
  const stream = files.Read({ sandboxId, path });
  let bytes = 0;
  const reading = (async () => {
    for await (const { data } of stream) {
      bytes += data?.length ?? 0;
      if (bytes >= fileBytes / 4) stream.cancel();
    }
  })();
  return codeOf(reading);
}

async function shell(sandboxId: string, script: string): Promise<string> {
  const request = { sandboxId, process: { command: '/bin/sh', args: ['-c', script] } };
  return (await call(processes.Exec.bind(processes), request)).stdout?.toString().trim() ?? '';
}

// Names in the directory, and KiB in use on the disk once they are as few as before, at last after 20 s.
const whatIsLeft = (kib: number) =>
  `for i in $(seq 100); do k=$(df -k / | awk 'END{print $3}'); [ $k -le ${kib} ] && break; sleep 0.2; done; ls -A /srv/own; echo $k`;

const create = { template: 'minimal', diskBytes };
const { sandbox } = await call(sandboxes.Create.bind(sandboxes), create);
const sandboxId = sandbox.id;
const command = await streamedCommand(sandboxId);
const written = await write(sandboxId, '/srv/own/file');
const readBack = await read(sandboxId, '/srv/own/file');
const usedKib = Number(await shell(sandboxId, "sync; df -k / | awk 'END{print $3}'"));
const cancelledWriteCode = await cancelledWrite(sandboxId, '/srv/own/cancelled');
const left = (await shell(sandboxId, whatIsLeft(usedKib + 1024))).split('\n');
const cancelledReadCode = await cancelledRead(sandboxId, '/srv/own/file');
await call(sandboxes.Destroy.bind(sandboxes), { sandboxId });
const { state } = (await call(sandboxes.Get.bind(sandboxes), { sandboxId })).sandbox;
for (const client of [sandboxes, processes, files]) client.close();
const outcome = {
  command,
  written,
  readBack,
  cancelledWriteCode,
  left: { names: left.slice(0, -1), extraKib: Number(left.at(-1)) - usedKib },
  cancelledReadCode,
  state,
  peakBytes: process.resourceUsage().maxRSS * 1024,
};
process.stdout.write(`${JSON.stringify(outcome)}\n`);
