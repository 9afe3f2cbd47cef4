// Disks as files: disks/<id>/{disk.qcow2,manifest.json}. A corrupt one is told apart from a missing one,
// so that it can be seen and deleted and still keeps its image.
import { chmod, readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '@wrenn/kit/clock';
import { writeDurably } from '@wrenn/kit/durable-file';
import { WrennError, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';

import type { DiskBackend, DiskFacts } from '../domain/disk-backend.ts';
import { manifestText, parseDiskManifest } from '../domain/manifest.ts';
import type { ImageVersion, StoredDisk } from '../domain/references.ts';
import type { DiskFiles } from '../domain/snapshot-store.ts';
import { tellingDiskFull } from './disk-full.ts';
import { orNothing, realBytesOf } from './files.ts';
import type { StoreDirectory } from './store-directory.ts';

const diskName = 'disk.qcow2';
const manifestName = 'manifest.json';

export interface StoredDisksParts {
  readonly directory: StoreDirectory;
  readonly backend: DiskBackend;
  readonly clock: Clock;
}

export class StoredDisks implements DiskFiles {
  readonly #directory: StoreDirectory;
  readonly #backend: DiskBackend;
  readonly #clock: Clock;

  constructor({ directory, backend, clock }: StoredDisksParts) {
    this.#directory = directory;
    this.#backend = backend;
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

  create(id: SandboxId, base: ImageVersion, virtualBytes: number): Promise<StoredDisk> {
    return tellingDiskFull(async () => {
      const home = this.#home(id);
      if (await orNothing(stat(home))) throw diskExists(id);
      const staged = await this.#directory.stage();
      try {
        await this.#make(join(staged, diskName), base, virtualBytes);
        await failpoint('store.disk.made');
        await writeDurably(join(staged, manifestName), this.#manifest(id, base, virtualBytes));
        await failpoint('store.disk.described');
        await this.#directory.publish(staged, home);
        await failpoint('store.disk.published');
      } catch (error) {
        await this.#directory.discard(staged);
        throw error;
      }
      return this.#read(id);
    });
  }

  async delete(id: SandboxId): Promise<void> {
    const retired = await this.#directory.retire(this.#home(id));
    if (retired === undefined) return;
    await failpoint('store.disk.retired');
    await this.#backend.delete(join(retired, diskName));
    await this.#directory.discard(retired);
    await failpoint('store.disk.removed');
  }

  async #make(path: string, base: ImageVersion, virtualBytes: number): Promise<void> {
    await this.#backend.create({ path, basePath: base.path, virtualBytes });
    // vm-runtime hands it to the uid of the VM; nobody else may read a guest's disk.
    await chmod(path, 0o600);
  }

  async #read(id: string): Promise<StoredDisk> {
    const path = join(this.#home(id), diskName);
    const file = await orNothing(stat(path));
    const disk = { id, path, image: '', imageDigest: '', virtualBytes: 0, realBytes: file ? realBytesOf(file) : 0 };
    const text = await orNothing(readFile(join(this.#home(id), manifestName), 'utf8'));
    const parsed = text === undefined ? { problem: 'the manifest is missing' } : parseDiskManifest(text, id);
    const facts = await this.#inspect(path);
    if ('problem' in parsed) {
      // The disk file itself still tells which image it stands on.
      const base = 'problem' in facts ? undefined : this.#directory.imageAt(facts.basePath);
      return { ...disk, image: base?.name ?? '', imageDigest: base?.digest ?? '', problem: parsed.problem };
    }
    const { image, imageDigest, virtualBytes } = parsed.manifest;
    const known = { ...disk, image, imageDigest, virtualBytes };
    if ('problem' in facts) return { ...known, problem: facts.problem };
    const isOnItsImage = facts.basePath === this.#directory.imagePath(image, imageDigest);
    return { ...known, problem: isOnItsImage ? '' : 'the disk file stands on another file than its image' };
  }

  async #inspect(path: string): Promise<DiskFacts | { readonly problem: string }> {
    try {
      return await this.#backend.inspect(path);
    } catch (error) {
      return { problem: `the disk file cannot be read: ${messageOf(error)}` };
    }
  }

  #manifest(id: string, base: ImageVersion, virtualBytes: number): string {
    return manifestText({
      format: 'wrenn.disk/1',
      id,
      image: base.name,
      imageDigest: base.digest,
      diskFormat: 'qcow2',
      virtualBytes,
      createdAt: this.#clock.now().toISOString(),
    });
  }

  #home(id: string): string {
    return join(this.#directory.disks, id);
  }
}

const diskExists = (id: string) => new WrennError('DISK_EXISTS', `disk ${id} exists`, { meta: { disk: id } });
