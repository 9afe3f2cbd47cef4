// qcow2 layers: an empty one is a header and three tables, written here, since running a program would cost a
// restore tens of milliseconds. A VMM writes to the file later, so its header is never trusted.
import { type FileHandle, open, rename, rm } from 'node:fs/promises';

import type { RunProgram } from '@wrenn/kit/run-program';

import type { DiskBackend, DiskFacts, LayerChain, NewDisk } from '../domain/disk-backend.ts';
import { programEnv } from './disk-full.ts';

const magic = 0x514649fb; // "QFI" and 0xfb.
const version = 3;
const clusterBits = 16;
const clusterBytes = 1 << clusterBits;
const headerBytes = 112;
const pageBytes = 4096;
const backingFormatExtension = 0xe2792aca;
const maxBackingNameBytes = 1023;
const refcountOrder = 4; // 16 bits.
const bytesPerL2 = clusterBytes * (clusterBytes / 8);
const collapseTimeoutMs = 30 * 60_000;

export class Qcow2Overlay implements DiskBackend {
  readonly #run: RunProgram;

  constructor(run: RunProgram) {
    this.#run = run;
  }

  async create(disk: NewDisk): Promise<void> {
    const file = await open(disk.path, 'wx', 0o600);
    try {
      await writeSparsely(file, emptyLayer(disk));
    } catch (error) {
      await this.delete(disk.path);
      throw error;
    } finally {
      await file.close();
    }
  }

  async inspect(path: string): Promise<DiskFacts> {
    const file = await open(path, 'r');
    try {
      const header = Buffer.alloc(clusterBytes);
      const { bytesRead } = await file.read(header, 0, clusterBytes, 0);
      return factsOf(header.subarray(0, bytesRead), path);
    } finally {
      await file.close();
    }
  }

  async delete(path: string): Promise<void> {
    await rm(path, { force: true });
  }

  // `qemu-img convert -B` would copy the top layer only. A safe rebase of a copy of it takes in whatever the layers
  // between differ in from the image; it is told every file by name and follows none that a header names.
  async collapse({ layers, basePath, virtualBytes }: LayerChain, path: string, signal: AbortSignal): Promise<void> {
    const [top, ...lower] = layers;
    if (top === undefined) throw new Error('there is no layer to collapse');
    const working = `${path}.collapsing`;
    await this.#run('cp', ['--sparse=always', '--', top, working], {
      env: programEnv,
      timeoutMs: collapseTimeoutMs,
      signal,
    });
    if (lower.length > 0) {
      const options = openOptions([working, ...lower], basePath);
      await this.#run(
        'qemu-img',
        ['rebase', '-q', '-t', 'writeback', '-F', 'raw', '-b', basePath, `json:${JSON.stringify(options)}`],
        {
          env: programEnv,
          timeoutMs: collapseTimeoutMs,
          signal,
        },
      );
    }
    const facts = await this.inspect(working);
    if (facts.backingName !== basePath || facts.virtualBytes !== virtualBytes)
      throw new Error('the collapsed disk layer is not what it should be');
    await rename(working, path);
  }
}

// Only the pages that are not zero: an empty layer then occupies 16 KiB.
async function writeSparsely(file: FileHandle, bytes: Buffer): Promise<void> {
  await file.truncate(bytes.length);
  for (let at = 0; at < bytes.length; at += clusterBytes) await file.write(bytes, at, pageBytes, at);
}

// Header, its one extension and the backing name, then refcount table, refcount block and an empty L1 table, a
// cluster each: what `qemu-img create` makes.
function emptyLayer({ backingName, backingFormat, virtualBytes }: NewDisk): Buffer {
  const l1Entries = Math.ceil(virtualBytes / bytesPerL2);
  if (l1Entries * 8 > clusterBytes) throw new Error(`a disk of ${virtualBytes} bytes is too large`);
  const bytes = Buffer.alloc(4 * clusterBytes);
  const name = Buffer.from(backingName);
  if (name.length > maxBackingNameBytes) throw new Error('the name of the backing file is too long');
  const nameAt = headerBytes + 16 + 8;
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt32BE(version, 4);
  bytes.writeBigUInt64BE(BigInt(nameAt), 8);
  bytes.writeUInt32BE(name.length, 16);
  bytes.writeUInt32BE(clusterBits, 20);
  bytes.writeBigUInt64BE(BigInt(virtualBytes), 24);
  bytes.writeUInt32BE(l1Entries, 36);
  bytes.writeBigUInt64BE(BigInt(3 * clusterBytes), 40); // L1 table.
  bytes.writeBigUInt64BE(BigInt(clusterBytes), 48); // Refcount table.
  bytes.writeUInt32BE(1, 56); // Its clusters.
  bytes.writeUInt32BE(refcountOrder, 96);
  bytes.writeUInt32BE(headerBytes, 100);
  bytes.writeUInt32BE(backingFormatExtension, headerBytes);
  bytes.writeUInt32BE(backingFormat.length, headerBytes + 4);
  bytes.write(backingFormat, headerBytes + 8, 'latin1');
  name.copy(bytes, nameAt);
  bytes.writeBigUInt64BE(BigInt(2 * clusterBytes), clusterBytes);
  for (let cluster = 0; cluster < 4; cluster++) bytes.writeUInt16BE(1, 2 * clusterBytes + 2 * cluster);
  return bytes;
}

function factsOf(header: Buffer, path: string): DiskFacts {
  if (header.length < 32 || header.readUInt32BE(0) !== magic) throw new Error(`${path} is no qcow2 file`);
  const nameAt = Number(header.readBigUInt64BE(8));
  const nameBytes = header.readUInt32BE(16);
  const isSound = nameBytes <= maxBackingNameBytes && nameAt + nameBytes <= header.length;
  if (!isSound) throw new Error(`${path} has a malformed qcow2 header`);
  return {
    backingName: header.toString('utf8', nameAt, nameAt + nameBytes),
    backingFormat: backingFormatOf(header),
    virtualBytes: Number(header.readBigUInt64BE(24)),
    // Not encrypted, no internal snapshots, no incompatible feature: an external data file would be one.
    isPlain:
      header.length >= 104 &&
      header.readUInt32BE(4) === version &&
      header.readUInt32BE(32) === 0 &&
      header.readUInt32BE(60) === 0 &&
      header.readBigUInt64BE(72) === 0n,
  };
}

function backingFormatOf(header: Buffer): string {
  if (header.length < 104) return '';
  for (let at = header.readUInt32BE(100); at + 8 <= header.length;) {
    const kind = header.readUInt32BE(at);
    const length = header.readUInt32BE(at + 4);
    if (kind === backingFormatExtension) return header.toString('latin1', at + 8, Math.min(at + 8 + length, at + 24));
    if (kind === 0) return '';
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return '';
}

function openOptions(layers: readonly string[], basePath: string): object {
  const [top, ...lower] = layers;
  if (top === undefined) return { driver: 'raw', file: { driver: 'file', filename: basePath } };
  return { driver: 'qcow2', file: { driver: 'file', filename: top }, backing: openOptions(lower, basePath) };
}
