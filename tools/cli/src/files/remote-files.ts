// The files of one sandbox, by gRPC: what the commands need of them.
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import { type FileEntry, FileType, type WriteStart } from '@wrenn/proto/wrenn/v1/filesystem';

import type { MeshClient } from '../client.ts';

export interface OpenedFile {
  readonly sizeBytes: number;
  readonly mode: number;
  readonly data: AsyncIterable<Uint8Array>; // Fails unless all of it has come.
}

// How the bytes of one file travel.
export interface ByteTransport {
  read(path: string, signal: AbortSignal): Promise<OpenedFile>;
  // `mode` 0: as the file that is replaced, else 0644.
  write(path: string, mode: number, data: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
}

const askLimitMs = 60_000;

export class RemoteFiles {
  readonly client: MeshClient;
  readonly sandboxId: string;
  readonly user: string;

  constructor(client: MeshClient, sandboxId: string, user = '') {
    this.client = client;
    this.sandboxId = sandboxId;
    this.user = user;
  }

  async stat(path: string): Promise<FileEntry> {
    return entryOf(await this.client.files.stat(this.#at(path), inMs(askLimitMs)));
  }

  // Undefined if there is nothing.
  async find(path: string): Promise<FileEntry | undefined> {
    try {
      return await this.stat(path);
    } catch (error) {
      if (hasReason(error, 'PATH_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  async list(path: string, depth = 1): Promise<FileEntry[]> {
    return (await this.client.files.list({ ...this.#at(path), depth }, inMs(askLimitMs))).entries;
  }

  async makeDir(path: string): Promise<FileEntry> {
    return entryOf(await this.client.files.makeDir(this.#at(path), inMs(askLimitMs)));
  }

  async move(source: string, destination: string): Promise<FileEntry> {
    const { sandboxId, user } = this;
    return entryOf(await this.client.files.move({ sandboxId, source, destination, user }, inMs(askLimitMs)));
  }

  async remove(path: string): Promise<void> {
    await this.client.files.remove(this.#at(path), inMs(10 * askLimitMs));
  }

  #at(path: string) {
    return { sandboxId: this.sandboxId, path, user: this.user };
  }
}

// Bytes by gRPC, from the mesh's bulk address.
export class GrpcBytes implements ByteTransport {
  readonly #files: RemoteFiles;

  constructor(files: RemoteFiles) {
    this.#files = files;
  }

  async read(path: string, signal: AbortSignal): Promise<OpenedFile> {
    const { client, sandboxId, user } = this.#files;
    const parts = client.bytes.read({ sandboxId, path, user }, { signal })[Symbol.asyncIterator]();
    const first = await parts.next();
    const opened = first.done ? undefined : first.value.part;
    if (opened?.case !== 'opened') throw new WrennError('AGENT_MISBEHAVED', 'the mesh sent a file without its entry');
    const { sizeBytes, mode } = opened.value;
    async function* data() {
      try {
        for (let next = await parts.next(); !next.done; next = await parts.next()) {
          if (next.value.part.case === 'data') yield next.value.part.value;
        }
      } finally {
        await parts.return?.(undefined);
      }
    }
    return { sizeBytes: Number(sizeBytes), mode, data: data() };
  }

  async write(path: string, mode: number, data: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const { client, sandboxId, user } = this.#files;
    await client.bytes.write(writeMessages({ sandboxId, path, user, mode }, data), { signal });
  }
}

type Start = Pick<WriteStart, 'sandboxId' | 'path' | 'user' | 'mode'>;
const messageBytes = 256 * 1024;

async function* writeMessages(start: Start, data: AsyncIterable<Uint8Array>) {
  yield { part: { case: 'start' as const, value: start } };
  for await (const chunk of data) {
    for (let at = 0; at < chunk.length; at += messageBytes) {
      yield { part: { case: 'data' as const, value: chunk.subarray(at, at + messageBytes) } };
    }
  }
  yield { part: { case: 'finish' as const, value: {} } };
}

function entryOf({ entry }: { entry?: FileEntry | undefined }): FileEntry {
  if (!entry) throw new WrennError('AGENT_MISBEHAVED', 'the mesh answered without an entry');
  return entry;
}

export const isDirectory = ({ type }: FileEntry) => type === FileType.DIRECTORY;
export const isFile = ({ type }: FileEntry) => type === FileType.FILE;
