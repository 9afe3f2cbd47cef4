// Finding and mending damage. A file is mended by a sound one of the same name in another snapshot, which is a
// hard link to the same content unless one of the two was replaced or lost.
import { WrennError } from '@wrenn/kit/errors';
import type { SnapshotId } from '@wrenn/kit/ids';

import type { Damage } from './snapshot-parts.ts';
import type { SnapshotManifest } from './snapshot-manifest.ts';

export interface CareFiles {
  // Sums come before the memfiles that are compared with them. With `isFull` every byte is read again.
  damages(manifest: SnapshotManifest, isFull: boolean, signal?: AbortSignal): Promise<Damage[]>;
  imageProblem(manifest: SnapshotManifest, signal?: AbortSignal): Promise<string>;
  // Puts another snapshot's file in the place of this one's if that is what this manifest says. False if not.
  replace(manifest: SnapshotManifest, file: string, donor: SnapshotId, signal?: AbortSignal): Promise<boolean>;
}

export class SnapshotCare {
  readonly #files: CareFiles;

  constructor(files: CareFiles) {
    this.#files = files;
  }

  async problems(manifest: SnapshotManifest, signal?: AbortSignal): Promise<string[]> {
    const damages = await this.#files.damages(manifest, true, signal);
    const image = await this.#files.imageProblem(manifest, signal);
    return [...damages.map(describe), ...(image === '' ? [] : [image])];
  }

  async repair(manifest: SnapshotManifest, donors: readonly SnapshotId[], signal?: AbortSignal) {
    const repaired: string[] = [];
    for (const { file } of await this.#files.damages(manifest, true, signal)) {
      for (const donor of donors) {
        if (!(await this.#files.replace(manifest, file, donor, signal))) continue;
        repaired.push(file);
        break;
      }
    }
    return { repaired, problems: await this.problems(manifest, signal) };
  }
}

export function describe({ file, generation, problem }: Damage): string {
  return `${file} of generation ${generation} ${problem}`;
}

export function corrupt(snapshot: string, damage: Damage): WrennError {
  const { file, generation } = damage;
  return new WrennError('SNAPSHOT_CORRUPT', describe(damage), {
    meta: { snapshot, file, generation: String(generation) },
  });
}
