import { open, rm } from 'node:fs/promises';

import type { RunProgram } from '@wrenn/kit/run-program';

import type { DiskBackend, DiskFacts, NewDisk } from '../domain/disk-backend.ts';
import { programEnv } from './disk-full.ts';

const magic = 0x514649fb; // "QFI" and 0xfb.
const headerBytes = 32;
const maxBackingNameBytes = 1023;
const maxNameOffset = 2n * 1024n * 1024n; // The name lies in the first cluster.

// One qcow2 file per disk, whose backing file is the raw base image.
export class Qcow2Overlay implements DiskBackend {
  readonly #run: RunProgram;

  constructor(run: RunProgram) {
    this.#run = run;
  }

  async create({ path, basePath, virtualBytes }: NewDisk): Promise<void> {
    const base = ['-F', 'raw', '-b', basePath];
    try {
      await this.#run('qemu-img', ['create', '-q', '-f', 'qcow2', ...base, path, String(virtualBytes)], {
        env: programEnv,
      });
    } catch (error) {
      await this.delete(path);
      throw error;
    }
  }

  // Reads the header by itself: `qemu-img info` would follow any name that a guest's VMM put there.
  async inspect(path: string): Promise<DiskFacts> {
    const file = await open(path, 'r');
    try {
      const header = Buffer.alloc(headerBytes);
      const { bytesRead } = await file.read(header, 0, headerBytes, 0);
      if (bytesRead < headerBytes || header.readUInt32BE(0) !== magic) throw new Error(`${path} is no qcow2 file`);
      const nameBytes = header.readUInt32BE(16);
      const nameOffset = header.readBigUInt64BE(8);
      if (nameBytes > maxBackingNameBytes || nameOffset > maxNameOffset)
        throw new Error(`${path} has a malformed qcow2 header`);
      const name = Buffer.alloc(nameBytes);
      await file.read(name, 0, nameBytes, Number(nameOffset));
      return { basePath: name.toString('utf8'), virtualBytes: Number(header.readBigUInt64BE(24)) };
    } finally {
      await file.close();
    }
  }

  async delete(path: string): Promise<void> {
    await rm(path, { force: true });
  }
}
