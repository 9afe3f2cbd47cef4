// Copies files into a sandbox and out of it. Names that come from a guest are untrusted: nothing is written
// outside the directory that was asked for.
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { hasReason } from '@wrenn/kit/errors';
import type { FileEntry } from '@wrenn/proto/wrenn/v1/filesystem';

import { UsageError } from '../exit-codes.ts';
import { printable } from '../output/printable.ts';
import { type LocalFile, describeLocal, readLocal, walkLocal, writeLocal } from './local-files.ts';
import { type ByteTransport, type RemoteFiles, isDirectory, isFile } from './remote-files.ts';
import { joinRemote, relativePath } from './remote-path.ts';

export interface CopyEvents {
  // One file begins; the returned function is told of its bytes as they pass.
  began(name: string, sizeBytes: number | undefined): (bytes: number) => void;
  skipped(name: string, why: string): void;
}

export interface Copied {
  fileCount: number;
  byteCount: number;
  skippedCount: number;
}

export class Copier {
  readonly copied: Copied = { fileCount: 0, byteCount: 0, skippedCount: 0 };
  readonly #remote: RemoteFiles;
  readonly #bytes: ByteTransport;
  readonly #events: CopyEvents;
  readonly #signal: AbortSignal;

  // Aborted, it ends the file that is under way and leaves nothing of it.
  constructor(remote: RemoteFiles, bytes: ByteTransport, events: CopyEvents, signal: AbortSignal) {
    this.#remote = remote;
    this.#bytes = bytes;
    this.#events = events;
    this.#signal = signal;
  }

  // `to` may be a directory that is there, or end with a slash: then the copy goes into it.
  async upload(from: string, to: string, isRecursive: boolean): Promise<void> {
    const local = await describeLocal(from);
    if (!local) throw new UsageError(`${from}: there is no such file`);
    if (local.kind === 'directory' && !isRecursive) throw new UsageError(`${from} is a directory; copy it with -r`);
    const target = await this.#remote.find(to);
    const goesInside = to.endsWith('/') || (target !== undefined && isDirectory(target));
    const name = basename(from);
    const path = goesInside && !isNoName(name) ? joinRemote(to, name) : to; // Of `.` what it holds is meant.
    if (local.kind === 'directory') await this.#uploadTree(from, path);
    else await this.uploadStream(readLocal(from), path, { name: from, ...local });
  }

  async uploadStream(
    data: AsyncIterable<Uint8Array>,
    path: string,
    { name, sizeBytes, mode = 0 }: { name: string; sizeBytes?: number; mode?: number },
  ): Promise<void> {
    await this.#bytes.write(path, mode, this.#counted(name, sizeBytes, data), this.#signal);
    this.copied.fileCount += 1;
  }

  async download(from: string, to: string, isRecursive: boolean): Promise<void> {
    const entry = await this.#remote.stat(from);
    if (isDirectory(entry) && !isRecursive) throw new UsageError(`${from} is a directory; copy it with -r`);
    const target = await describeLocal(to);
    if (to.endsWith('/') && target?.kind !== 'directory') throw new UsageError(`${to} is no directory here`);
    const path = target?.kind === 'directory' ? join(to, safeName(from)) : to;
    if (isDirectory(entry)) await this.#downloadTree(entry, path);
    else await this.#downloadFile(from, path);
  }

  async downloadTo(
    from: string,
    deliver: (data: AsyncIterable<Uint8Array>, mode: number) => Promise<void>,
  ): Promise<void> {
    const { sizeBytes, mode, data } = await this.#bytes.read(from, this.#signal);
    await deliver(this.#counted(from, sizeBytes, data), mode);
    this.copied.fileCount += 1;
  }

  async #uploadTree(root: string, to: string): Promise<void> {
    await this.#makeRemoteDir(to);
    for await (const file of walkLocal(root)) {
      const path = joinRemote(to, file.relativePath);
      if (file.kind === 'directory') await this.#makeRemoteDir(path);
      else if (file.kind === 'file') await this.#uploadOne(file, path);
      else this.#skip(file.path, 'neither a file nor a directory');
    }
  }

  #uploadOne(file: LocalFile, path: string): Promise<void> {
    return this.uploadStream(readLocal(file.path), path, {
      name: file.path,
      sizeBytes: file.sizeBytes,
      mode: file.mode,
    });
  }

  async #makeRemoteDir(path: string): Promise<void> {
    const found = await this.#remote.find(path);
    if (!found || !isDirectory(found)) await this.#remote.makeDir(path);
  }

  // Directory by directory: each is told in one answer, however large the tree.
  async #downloadTree(directory: FileEntry, to: string): Promise<void> {
    await mkdir(to, { recursive: true });
    for (const entry of await this.#remote.list(directory.path)) {
      this.#signal.throwIfAborted();
      const name = relativePath(directory.path, entry.path);
      if (name === undefined || name.includes('/')) this.#skip(entry.path, 'its path leads elsewhere');
      else if (isDirectory(entry) && entry.symlinkTarget === '') await this.#downloadTree(entry, join(to, name));
      else if (isFile(entry)) await this.#downloadUnlessRefused(entry.path, join(to, name));
      else this.#skip(entry.path, 'neither a file nor a directory');
    }
  }

  // One file among many that may not be read, or is gone meanwhile, does not keep the others back.
  async #downloadUnlessRefused(from: string, to: string): Promise<void> {
    try {
      await this.#downloadFile(from, to);
    } catch (error) {
      if (!hasReason(error, 'PATH_NOT_FOUND', 'PATH_NOT_PERMITTED')) throw error;
      this.#skip(from, printable(error.message));
    }
  }

  #downloadFile(from: string, to: string): Promise<void> {
    return this.downloadTo(from, (data, mode) => writeLocal(to, mode, data, this.#signal));
  }

  #skip(name: string, why: string): void {
    this.copied.skippedCount += 1;
    this.#events.skipped(printable(name), why);
  }

  async *#counted(
    name: string,
    sizeBytes: number | undefined,
    data: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const passed = this.#events.began(printable(name), sizeBytes);
    for await (const bytes of data) {
      passed(bytes.length);
      this.copied.byteCount += bytes.length;
      yield bytes;
    }
  }
}

// The caller named it, but `id:/tmp/..` would still lead out.
function safeName(path: string): string {
  const name = basename(path);
  if (isNoName(name)) throw new UsageError(`${path} has no name to copy it under`);
  return name;
}

const isNoName = (name: string) => ['', '.', '..'].includes(name);
