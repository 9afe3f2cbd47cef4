// Compares a file of a snapshot with what its manifest says of it. For worker threads.
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';

import { messageOf } from '@wrenn/kit/errors';

import { blockBytes } from '../domain/memory-map.ts';
import type { FileFacts } from '../domain/snapshot-manifest.ts';
import { decodeSums } from '../domain/sums-format.ts';
import { readChunks } from './chunks.ts';

export interface FileCheck {
  readonly path: string;
  readonly facts: FileFacts;
  readonly sumsPath: string; // Of a memfile; else empty.
}

// Empty when the file is what it should be.
export function problemOf({ path, facts, sumsPath }: FileCheck, goOn: () => void): string {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'is missing' : `cannot be read: ${messageOf(error)}`;
  }
  try {
    const { size } = fstatSync(fd);
    if (size !== facts.bytes) return `has ${size} bytes instead of ${facts.bytes}`;
    return contentProblem(fd, facts, sumsPath, goOn);
  } catch (error) {
    if (isCancelled(error)) throw error;
    return `cannot be checked: ${messageOf(error)}`;
  } finally {
    closeSync(fd);
  }
}

export class Cancelled extends Error {
  override readonly name = 'Cancelled';
}

function isCancelled(error: unknown): boolean {
  return error instanceof Cancelled;
}

function contentProblem(fd: number, facts: FileFacts, sumsPath: string, goOn: () => void): string {
  const sums = sumsPath === '' ? undefined : decodeSums(readFileSync(sumsPath), facts.bytes / blockBytes);
  const hash = createHash('sha256');
  let crc = 0;
  let block = 0;
  for (const chunk of readChunks(fd)) {
    goOn();
    if (facts.sha256 !== undefined) hash.update(chunk);
    if (facts.crc32 !== undefined) crc = crc32(chunk, crc);
    for (let at = 0; sums && at < chunk.length; at += blockBytes, block++) {
      if (crc32(chunk.subarray(at, at + blockBytes)) !== sums[block]) return `is damaged in block ${block}`;
    }
  }
  if (facts.sha256 !== undefined && hash.digest('hex') !== facts.sha256) return 'is damaged: its SHA-256 is another';
  if (facts.crc32 !== undefined && crc !== facts.crc32) return 'is damaged: its CRC-32 is another';
  return '';
}
