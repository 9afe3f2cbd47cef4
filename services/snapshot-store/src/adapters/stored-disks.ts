// Disks as files: disks/<id>/{disk.qcow2,disk.<build>…,manifest.json}. A corrupt one is told apart from a missing one,
// so that it can be seen and deleted and still keeps its image.
import { existsSync, readFileSync } from 'node:fs';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '@wrenn/kit/clock';
import { writeDurably } from '@wrenn/kit/durable-file';
import { WrennError, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';

import type { DiskBackend, DiskFacts } from '../domain/disk-backend.ts';
import { type DiskManifest, manifestText, parseDiskManifest } from '../domain/manifest.ts';
import type { ImageVersion, StoredDisk } from '../domain/references.ts';
import { type NewLayeredDisk, layerName } from '../domain/snapshot.ts';
import type { LayeredDisks } from '../domain/snapshot-parts.ts';
import type { DiskFiles } from '../domain/snapshot-store.ts';
import { tellingDiskFull } from './disk-full.ts';
import { orNothing, realBytesOf } from './files.ts';
import type { RamDirectory } from './ram-directory.ts';
import type { StoreDirectory } from './store-directory.ts';
import type { VerifiedFiles } from './verified-files.ts';

export const diskName = 'disk.qcow2';
const manifestName = 'manifest.json';
// Whoever knows its name may cross it: VMs reach their own disk and the layers below it.
const diskDirectoryMode = 0o711;

export interface StoredDisksParts {
  readonly directory: StoreDirectory;
  readonly ram: RamDirectory;
  readonly backend: DiskBackend;
  readonly verified: VerifiedFiles;
  readonly clock: Clock;
}

export class StoredDisks implements DiskFiles, LayeredDisks {
  readonly #directory: StoreDirectory;
  readonly #ram: RamDirectory;
  readonly #backend: DiskBackend;
  readonly #verified: VerifiedFiles;
  readonly #clock: Clock;

  constructor({ directory, ram, backend, verified, clock }: StoredDisksParts) {
    this.#directory = directory;
    this.#ram = ram;
    this.#backend = backend;
    this.#verified = verified;
    this.#clock = clock;
  }

  async list(): Promise<StoredDisk[]> {
    const ids = (await readdir(this.#directory.disks)).filter(isSandboxId).sort();
    const disks = await Promise.all(ids.map((id) => this.find(id)));
    return disks.filter((disk) => disk !== undefined);
  }

  async find(id: string): Promise<StoredDisk | undefined> {
    const disk = await this.#read(id);
    // One that was deleted while it was read is not corrupt.
    if (disk.problem && !(await orNothing(stat(this.#home(id))))) return undefined;
    return disk;
  }

  exists(id: string): boolean {
    return existsSync(this.#home(id));
  }

  // What the manifest alone says: quick enough for a VM that stands still meanwhile.
  peek(id: string): DiskManifest | undefined {
    const path = join(this.#home(id), manifestName);
    if (!existsSync(path) || !existsSync(join(this.#home(id), diskName))) return undefined;
    const parsed = parseDiskManifest(readFileSync(path, 'utf8'), id);
    return 'manifest' in parsed ? parsed.manifest : undefined;
  }

  create(id: SandboxId, base: ImageVersion, virtualBytes: number): Promise<StoredDisk> {
    const { name: image, digest: imageDigest } = base;
    const manifest = this.#manifest({ id, image, imageDigest, virtualBytes, parentId: null, layers: [] });
    return this.#add(id, async (staged) => {
      const path = join(staged, diskName);
      await this.#backend.create({ path, backingName: base.path, backingFormat: 'raw', virtualBytes });
      await failpoint('store.disk.made');
      await writeDurably(join(staged, manifestName), manifest);
      await failpoint('store.disk.described');
      await this.#directory.publish(staged, this.#home(id));
      await failpoint('store.disk.published');
    });
  }

  // Not made durable: after a power cut no VM runs that needs it.
  createOver({ layers, ...disk }: NewLayeredDisk): Promise<StoredDisk> {
    const manifest = this.#manifest({ ...disk, layers: layers.map((layer) => layer.id) });
    return this.#add(disk.id, async (staged) => {
      for (const layer of layers) this.#verified.link(layer.path, join(staged, layerName(layer.id)));
      const path = join(staged, diskName);
      const backingName = layerName(layers[0]!.id);
      const { virtualBytes } = disk;
      await Promise.all([
        this.#backend.create({ path, backingName, backingFormat: 'qcow2', virtualBytes }),
        writeFile(join(staged, manifestName), manifest),
      ]);
      await failpoint('store.disk.described');
      await this.#directory.place(staged, this.#home(disk.id));
      await failpoint('store.disk.published');
    });
  }

  async delete(id: SandboxId): Promise<void> {
    this.#ram.forget(id);
    const retired = await this.#directory.retire(this.#home(id));
    if (retired === undefined) return;
    await failpoint('store.disk.retired');
    await this.#verified.remove(retired);
    await failpoint('store.disk.removed');
  }

  #add(id: SandboxId, make: (staged: string) => Promise<void>): Promise<StoredDisk> {
    return tellingDiskFull(async () => {
      if (existsSync(this.#home(id))) throw diskExists(id);
      const staged = await this.#directory.stage(diskDirectoryMode);
      try {
        await make(staged);
      } catch (error) {
        await this.#verified.remove(staged);
        throw error;
      }
      return this.#read(id);
    });
  }

  async #read(id: string): Promise<StoredDisk> {
    const path = join(this.#home(id), diskName);
    const file = await orNothing(stat(path));
    const realBytes = file ? realBytesOf(file) : 0;
    const unknown = { image: '', imageDigest: '', virtualBytes: 0, parentId: null, layers: [] };
    const disk = { id, path, realBytes, ...unknown };
    const text = await orNothing(readFile(join(this.#home(id), manifestName), 'utf8'));
    const parsed = text === undefined ? { problem: 'the manifest is missing' } : parseDiskManifest(text, id);
    const facts = await this.#inspect(path);
    if ('problem' in parsed) {
      // The disk file itself still tells which image it stands on.
      const base = 'problem' in facts ? undefined : this.#directory.imageAt(facts.backingName);
      return { ...disk, image: base?.name ?? '', imageDigest: base?.digest ?? '', problem: parsed.problem };
    }
    const { image, imageDigest, virtualBytes, parentId, layers } = parsed.manifest;
    const known = { ...disk, image, imageDigest, virtualBytes, parentId, layers };
    if ('problem' in facts) return { ...known, problem: facts.problem };
    const [top] = layers;
    const below = top === undefined ? this.#directory.imagePath(image, imageDigest) : layerName(top);
    if (facts.backingName !== below) {
      return { ...known, problem: 'the disk file stands on another file than its image' };
    }
    const missing = layers.find((layer) => !existsSync(join(this.#home(id), layerName(layer))));
    return { ...known, problem: missing === undefined ? '' : `${layerName(missing)} is missing` };
  }

  async #inspect(path: string): Promise<DiskFacts | { readonly problem: string }> {
    try {
      return await this.#backend.inspect(path);
    } catch (error) {
      return { problem: `the disk file cannot be read: ${messageOf(error)}` };
    }
  }

  #manifest(disk: Omit<DiskManifest, 'format' | 'diskFormat' | 'createdAt'>): string {
    const createdAt = this.#clock.now().toISOString();
    return manifestText({ format: 'wrenn.disk/1', diskFormat: 'qcow2', ...disk, createdAt });
  }

  #home(id: string): string {
    return join(this.#directory.disks, id);
  }
}

const diskExists = (id: string) => new WrennError('DISK_EXISTS', `disk ${id} exists`, { meta: { disk: id } });
