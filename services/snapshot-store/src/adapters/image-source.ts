import { chmod, stat } from 'node:fs/promises';

import { WrennError, invalidField, messageOf } from '@wrenn/kit/errors';
import type { RunProgram } from '@wrenn/kit/run-program';

import { type Source, isSameSource } from '../domain/source.ts';
import { programEnv } from './disk-full.ts';
import { sha256Of, syncFile } from './files.ts';

const copyTimeoutMs = 10 * 60_000;

export async function inspectSource(path: string): Promise<Source> {
  const found = await stat(path, { bigint: true }).catch((error: unknown) => {
    throw new WrennError('SOURCE_NOT_FOUND', `source_path cannot be read: ${messageOf(error)}`, { cause: error });
  });
  if (!found.isFile()) throw invalidField('source_path', 'must name a regular file');
  if (found.size === 0n || found.size % 512n !== 0n) {
    throw invalidField('source_path', 'must name a raw image: a file of whole 512-byte sectors');
  }
  const fingerprint = {
    device: String(found.dev),
    inode: String(found.ino),
    sizeBytes: String(found.size),
    mtimeNs: String(found.mtimeNs),
    ctimeNs: String(found.ctimeNs),
  };
  return { path, sizeBytes: Number(found.size), fingerprint };
}

export interface SourceCopy {
  readonly source: Source;
  readonly path: string;
  readonly run: RunProgram;
  readonly signal: AbortSignal;
}

// Copies a source durably, holes kept, and returns the digest of the copy: it is the copy that guests
// will read, so it is the copy that is hashed.
export async function copySource({ source, path, run, signal }: SourceCopy): Promise<string> {
  await run('cp', ['--sparse=always', '--reflink=auto', '--', source.path, path], {
    env: programEnv,
    timeoutMs: copyTimeoutMs,
    signal,
  });
  const digest = `sha256:${await sha256Of(path, signal)}`;
  await chmod(path, 0o444);
  await syncFile(path);
  const after = await inspectSource(source.path);
  if (isSameSource(source.fingerprint, after.fingerprint)) return digest;
  throw new WrennError('STATE_CONFLICT', 'the source changed while it was copied; import it again');
}
