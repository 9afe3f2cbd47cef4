// Keeps operations from meeting: one at a time per disk and per image, save that disks of one image are made side by
// side. Lock order is disk, snapshot, its parent, image; what holds one takes none that comes before.
import { WrennError, invalidField } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import type { KeyedLocks } from './keyed-locks.ts';
import {
  type ImageUser,
  type ImageVersion,
  type StoredDisk,
  needs,
  supersededVersions,
  userOfImage,
} from './references.ts';
import { type Source, isSameSource } from './source.ts';

// A copy of a source, complete but not part of the store yet.
export interface StagedImage {
  readonly directory: string;
  readonly digest: string;
}

export interface ImageFiles {
  // Removes what a crash left half-done.
  sweep(): Promise<void>;
  names(): Promise<string[]>;
  versions(name: string): Promise<ImageVersion[]>;
  inspectSource(path: string): Promise<Source>;
  stage(name: string, source: Source, signal: AbortSignal): Promise<StagedImage>;
  // Makes the staged content the name's current version. It consumes the staged copy only if it is new.
  publish(name: string, staged: StagedImage): Promise<void>;
  discard(staged: StagedImage): Promise<void>;
  setCurrent(version: ImageVersion): Promise<void>;
  deleteVersion(version: ImageVersion): Promise<void>;
  // False when there was nothing of that name.
  deleteName(name: string): Promise<boolean>;
}

export interface DiskFiles {
  list(): Promise<StoredDisk[]>;
  find(id: string): Promise<StoredDisk | undefined>;
  create(id: SandboxId, base: ImageVersion, virtualBytes: number): Promise<StoredDisk>;
  delete(id: SandboxId): Promise<void>;
}

export interface CountedImage extends ImageVersion {
  readonly diskCount: number;
}

export interface SnapshotStoreParts {
  readonly images: ImageFiles;
  readonly disks: DiskFiles;
  // Snapshots, as far as they need images.
  readonly snapshotUsers: () => ImageUser[];
  readonly locks: KeyedLocks;
  readonly log: Log;
}

const MiB = 1024 * 1024;
const maxDiskBytes = 1024 * 1024 * MiB;
const imageKey = (name: string) => `image ${name}`;
export const diskKey = (id: string) => `disk ${id}`;

export class SnapshotStore {
  readonly #images: ImageFiles;
  readonly #disks: DiskFiles;
  readonly #log: Log;
  readonly #snapshotUsers: () => ImageUser[];
  readonly #locks: KeyedLocks;

  constructor({ images, disks, snapshotUsers, locks, log }: SnapshotStoreParts) {
    this.#images = images;
    this.#disks = disks;
    this.#snapshotUsers = snapshotUsers;
    this.#locks = locks;
    this.#log = log;
  }

  // Says what the last life left unusable and removes what nobody needs any more.
  async open(): Promise<void> {
    await this.#images.sweep();
    for (const disk of await this.#disks.list()) {
      if (disk.problem) this.#log.error({ sandbox: disk.id, problem: disk.problem }, 'disk is corrupt');
    }
    for (const image of await this.listImages()) {
      const { name, digest, problem } = image;
      if (problem) this.#log.error({ image: name, digest, problem }, 'image is corrupt');
      else if (!image.isCurrent) await this.#locks.exclusive(imageKey(name), () => this.#collect(name));
    }
  }

  async importImage(name: string, sourcePath: string, signal: AbortSignal): Promise<CountedImage> {
    const source = await this.#images.inspectSource(sourcePath);
    const isKnown = await this.#locks.exclusive(imageKey(name), () => this.#adopt(name, source));
    if (!isKnown) await this.#copyIn(name, source, signal);
    const current = (await this.#imagesOf(name)).find((image) => image.isCurrent);
    if (!current) throw new WrennError('IMAGE_NOT_FOUND', `image ${name} was deleted while it was imported`);
    return current;
  }

  async listImages(): Promise<CountedImage[]> {
    const names = await this.#images.names();
    return (await Promise.all(names.map((name) => this.#imagesOf(name)))).flat();
  }

  deleteImage(name: string): Promise<void> {
    return this.#locks.exclusive(imageKey(name), async () => {
      const user = userOfImage(await this.#users(), name);
      if (user && (await this.#images.versions(name)).length > 0) {
        const { kind, id } = user;
        throw new WrennError('IMAGE_IN_USE', `image ${name} is needed by ${kind} ${id}`, { meta: { [kind]: id } });
      }
      if (!(await this.#images.deleteName(name))) throw noImage(name);
      this.#log.info({ image: name }, 'image deleted');
    });
  }

  // `virtualBytes` 0 stands for the image's size.
  createDisk(id: SandboxId, image: string, virtualBytes: bigint): Promise<StoredDisk> {
    return this.#locks.exclusive(diskKey(id), () =>
      this.#locks.shared(imageKey(image), async () => {
        const base = await this.#base(image);
        const disk = await this.#disks.create(id, base, diskBytes(virtualBytes, base));
        this.#log.info({ sandbox: id, image, virtualBytes: disk.virtualBytes }, 'disk created');
        return disk;
      }),
    );
  }

  deleteDisk(id: SandboxId): Promise<void> {
    return this.#locks.exclusive(diskKey(id), async () => {
      const disk = await this.#disks.find(id);
      if (!disk) return;
      await this.#disks.delete(id);
      this.#log.info({ sandbox: id }, 'disk deleted');
      await this.collectImages(disk.image);
    });
  }

  // Removes versions that nobody needs any more, of all images where the name is empty.
  async collectImages(image: string): Promise<void> {
    const names = image === '' ? await this.#images.names() : [image];
    for (const name of names) await this.#locks.exclusive(imageKey(name), () => this.#collect(name));
  }

  listDisks(): Promise<StoredDisk[]> {
    return this.#disks.list();
  }

  // True when the source is one that the store has copied already, which then is the current version.
  async #adopt(name: string, source: Source): Promise<boolean> {
    const versions = await this.#images.versions(name);
    const known = versions.find((version) => !version.problem && isSameSource(version.source, source.fingerprint));
    if (!known) return false;
    if (!known.isCurrent) {
      await this.#images.setCurrent(known);
      await this.#collect(name);
    }
    return true;
  }

  async #copyIn(name: string, source: Source, signal: AbortSignal): Promise<void> {
    const staged = await this.#images.stage(name, source, signal);
    try {
      await this.#locks.exclusive(imageKey(name), async () => {
        await this.#images.publish(name, staged);
        this.#log.info({ image: name, digest: staged.digest }, 'image imported');
        await this.#collect(name);
      });
    } finally {
      await this.#images.discard(staged);
    }
  }

  async #base(image: string): Promise<ImageVersion> {
    const versions = await this.#images.versions(image);
    if (versions.length === 0) throw noImage(image);
    const current = versions.find((version) => version.isCurrent);
    if (current && !current.problem) return current;
    const problem = current?.problem ?? 'it has no current version';
    throw new WrennError('IMAGE_CORRUPT', `image ${image} must be imported again: ${problem}`, { meta: { image } });
  }

  async #imagesOf(name: string): Promise<CountedImage[]> {
    const versions = await this.#locks.shared(imageKey(name), () => this.#images.versions(name));
    const disks = await this.#disks.list();
    return versions.map((version) => ({
      ...version,
      diskCount: disks.filter((disk) => disk.image !== '' && needs(disk, name, version.digest)).length,
    }));
  }

  // Disks first: a disk becomes a part of a snapshot, and must not be missed on its way.
  async #users(): Promise<ImageUser[]> {
    const disks = await this.#disks.list();
    return [...disks.map((disk) => ({ kind: 'disk' as const, ...disk })), ...this.#snapshotUsers()];
  }

  // Runs under the image's exclusive lock, so no disk can appear on a version that goes.
  async #collect(name: string): Promise<void> {
    const versions = await this.#images.versions(name);
    if (versions.every((version) => version.isCurrent)) return;
    for (const version of supersededVersions(versions, await this.#users())) {
      await this.#images.deleteVersion(version);
      this.#log.info({ image: name, digest: version.digest }, 'superseded image version deleted');
    }
  }
}

const noImage = (name: string) => new WrennError('IMAGE_NOT_FOUND', `no image ${name}`, { meta: { image: name } });

function diskBytes(asked: bigint, base: ImageVersion): number {
  if (asked === 0n) return base.virtualBytes;
  const bytes = Number(asked);
  if (bytes < base.virtualBytes || bytes > maxDiskBytes || bytes % MiB !== 0) {
    const range = `${base.virtualBytes}, the size of its image, to ${maxDiskBytes}`;
    throw invalidField('virtual_bytes', `must be 0 or ${range} bytes and a multiple of ${MiB}`);
  }
  return bytes;
}
