import type { CallDeadline } from '@wrenn/kit/deadlines';
import { within } from '@wrenn/kit/deadlines';
import { WrennError, invalidField } from '@wrenn/kit/errors';
import type { Clock } from '@wrenn/kit/clock';
import type { SandboxId } from '@wrenn/kit/ids';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireDurationWithin, requireSandboxId, requireWithin } from '@wrenn/kit/validate';
import {
  FileChangeType,
  FileType,
  type FilesystemService,
  type FilesystemServiceSignUrlRequest,
  type FilesystemServiceWriteRequest,
  UrlOperation,
  type WriteStart,
} from '@wrenn/proto/wrenn/v1/filesystem';

import type { FileChange, FileEntry, FilePlace, GuestBytes, GuestFiles } from './domain/guest-files.ts';
import { signedUrl } from './domain/signed-url.ts';
import type { VmTable } from './domain/vm-table.ts';

const MiB = 1024 * 1024;
const maxAnswerBytes = 3 * MiB;
const entryOverheadBytes = 48; // Numbers, tags and lengths of one entry, at most.
const maxPathBytes = 4095;
const maxDepth = 64;
const maxDataBytes = 2 * MiB;
const maxMode = 0o777;
const defaultUrlMs = 15 * 60_000;
const maxUrlMs = 24 * 3_600_000;
// A short answer from the agent to a short question; removing a large tree takes its time.
const askLimitMs = 30_000;
const removeLimitMs = 10 * 60_000;
const userPattern = /^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$/;

// What one process serves of the files of sandboxes. Each part rejects with SANDBOX_NOT_FOUND,
// SANDBOX_NOT_RUNNING or VMM_DIED where there is no such sandbox.
export interface FilesystemParts {
  files(sandboxId: SandboxId): Promise<GuestFiles>;
  bytes(sandboxId: SandboxId): Promise<GuestBytes>;
  signUrl(sandboxId: SandboxId, request: UrlRequest): Promise<{ url: string; expiresAtS: number }>;
}

export interface UrlRequest extends FilePlace {
  readonly operation: 'read' | 'write';
  readonly ttlMs: number;
}

export function filesystemHandlers(parts: FilesystemParts): RpcHandlers<typeof FilesystemService.method> {
  const filesOf = (sandboxId: string) => parts.files(requireSandboxId(sandboxId));
  return {
    async stat(request, call) {
      const place = placeOf(request);
      const entry = await (await filesOf(request.sandboxId)).stat(place, within(call, askLimitMs));
      return { entry: wireEntry(entry) };
    },
    async list(request, call) {
      const place = placeOf(request);
      const depth = requireWithin(request.depth, 'depth', 0, maxDepth) || 1;
      const entries = await (await filesOf(request.sandboxId)).list(place, depth, within(call, askLimitMs));
      if (sizeOf(entries) > maxAnswerBytes) {
        throw new WrennError('TOO_MANY_ENTRIES', `${entries.length} entries do not fit one answer of 3 MiB`);
      }
      return { entries: entries.map(wireEntry) };
    },
    async makeDir(request, call) {
      const place = placeOf(request);
      const entry = await (await filesOf(request.sandboxId)).makeDir(place, within(call, askLimitMs));
      return { entry: wireEntry(entry) };
    },
    async move({ sandboxId, source, destination, user }, call) {
      const from = { path: requirePath(source, 'source'), user: requireUser(user) };
      requirePath(destination, 'destination');
      const entry = await (await filesOf(sandboxId)).move(from, destination, within(call, askLimitMs));
      return { entry: wireEntry(entry) };
    },
    async remove(request, call) {
      const place = placeOf(request);
      await (await filesOf(request.sandboxId)).remove(place, within(call, removeLimitMs));
      return {};
    },
    async *watch(request, call) {
      const place = placeOf(request);
      const files = await filesOf(request.sandboxId);
      for await (const event of files.watch(place, request.isRecursive, call.signal)) {
        yield event === 'started' ? { part: { case: 'started' as const, value: {} } } : wireChange(event);
      }
    },
    async *read(request, call) {
      const place = placeOf(request);
      const { offset, length } = request;
      const bytes = await parts.bytes(requireSandboxId(request.sandboxId));
      for await (const part of bytes.read(place, { offset, length }, call.signal)) {
        yield 'opened' in part
          ? { part: { case: 'opened' as const, value: wireEntry(part.opened) } }
          : { part: { case: 'data' as const, value: part.data } };
      }
    },
    async write(requests, call) {
      const messages = requests[Symbol.asyncIterator]();
      const start = startOf(await messages.next());
      const place = placeOf(start);
      const mode = requireWithin(start.mode, 'mode', 0, maxMode);
      const bytes = await parts.bytes(requireSandboxId(start.sandboxId));
      return { entry: wireEntry(await bytes.write(place, mode, dataOf(messages, call), call.signal)) };
    },
    async signUrl(request) {
      const sandboxId = requireSandboxId(request.sandboxId);
      const { url, expiresAtS } = await parts.signUrl(sandboxId, urlRequestOf(request));
      return { url, expiresAt: { seconds: BigInt(expiresAtS), nanos: 0 } };
    },
  };
}

// What the main thread serves: everything but bytes in number.
export function vmFiles(vms: Pick<VmTable, 'serving'>, edgeUrl: string, clock: Clock): FilesystemParts {
  return {
    files: async (sandboxId) => (await vms.serving(sandboxId)).agent.files,
    bytes: async () => {
      throw new WrennError('UNIMPLEMENTED', "Read and Write are served at the host's bulk address");
    },
    async signUrl(sandboxId, { path, user, operation, ttlMs }) {
      const { accessToken } = (await vms.serving(sandboxId)).facts;
      const expiresAtS = Math.ceil((clock.now().getTime() + ttlMs) / 1000);
      return { url: signedUrl({ edgeUrl, sandboxId, path, user, operation, expiresAtS, accessToken }), expiresAtS };
    },
  };
}

type WriteResult = IteratorResult<FilesystemServiceWriteRequest, unknown>;

function startOf(first: WriteResult): WriteStart {
  const part = first.done ? undefined : first.value.part;
  if (part?.case !== 'start') throw invalidField('start', 'must be the first message');
  return part.value;
}

// Comes to its end only by `finish`: Node's HTTP/2 ends a stream that it cancels before it resets it, so that
// half a file would look like a whole one.
async function* dataOf(messages: AsyncIterator<FilesystemServiceWriteRequest>, call: CallDeadline) {
  for (let next = await messages.next(); !next.done; next = await messages.next()) {
    const { part } = next.value;
    if (part.case === 'finish') return;
    if (part.case !== 'data') throw invalidField('data', 'must be in every message between start and finish');
    requireWithin(part.value.length, 'data', 0, maxDataBytes);
    yield part.value;
  }
  if (call.signal.aborted) throw new WrennError('CANCELLED', 'the caller left; the file is as it was');
  throw invalidField('finish', 'must be the last message; the file is as it was');
}

function placeOf({ path, user }: { path: string; user: string }): FilePlace {
  return { path: requirePath(path, 'path'), user: requireUser(user) };
}

function requirePath(path: string, field: string): string {
  if (path === '' || Buffer.byteLength(path) > maxPathBytes) {
    throw invalidField(field, `must be 1 to ${maxPathBytes} bytes`);
  }
  if (path.includes('\0')) throw invalidField(field, 'must hold no NUL');
  return path;
}

function requireUser(user: string): string {
  if (user !== '' && !userPattern.test(user)) throw invalidField('user', 'must be a user name');
  return user;
}

function urlRequestOf(request: FilesystemServiceSignUrlRequest): UrlRequest {
  const operations: Partial<Record<UrlOperation, UrlRequest['operation']>> = {
    [UrlOperation.READ]: 'read',
    [UrlOperation.WRITE]: 'write',
  };
  const operation = operations[request.operation];
  if (!operation) throw invalidField('operation', 'must be READ or WRITE');
  const ttlMs = request.ttl ? requireDurationWithin(request.ttl, 'ttl', 1000, maxUrlMs) : defaultUrlMs;
  return { ...placeOf(request), operation, ttlMs };
}

function sizeOf(entries: readonly FileEntry[]): number {
  return entries.reduce((sum, entry) => {
    const texts = [entry.name, entry.path, entry.owner, entry.group, entry.symlinkTarget];
    return sum + entryOverheadBytes + texts.reduce((bytes, text) => bytes + Buffer.byteLength(text), 0);
  }, 0);
}

const wireTypes = {
  file: FileType.FILE,
  directory: FileType.DIRECTORY,
  symlink: FileType.SYMLINK,
  other: FileType.UNSPECIFIED,
} as const;

function wireEntry(entry: FileEntry) {
  return { ...entry, type: wireTypes[entry.type] };
}

const wireChangeTypes = {
  created: FileChangeType.CREATED,
  written: FileChangeType.WRITTEN,
  removed: FileChangeType.REMOVED,
  renamed: FileChangeType.RENAMED,
  'mode-changed': FileChangeType.MODE_CHANGED,
} as const;

function wireChange({ path, type }: FileChange) {
  return { part: { case: 'change' as const, value: { path, type: wireChangeTypes[type] } } };
}
