// Snapshots on disk: snapshots/<id>/, complete since the rename that brought them there. What does not read well is
// damaged; it is shown, and nothing else suffers.
import { existsSync, lstatSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type SnapshotId, isSnapshotId } from '@wrenn/kit/ids';

import type { Parsed } from '../domain/manifest.ts';
import {
  type MemoryFile,
  headerName,
  layerName,
  memfileName,
  singleMemfileName,
  sumsName,
  vmstateName,
  workingSetName,
} from '../domain/snapshot.ts';
import { type SnapshotManifest, parseSnapshotManifest } from '../domain/snapshot-manifest.ts';
import type { CommittedFiles } from '../domain/snapshot-parts.ts';
import { realBytesOf } from './files.ts';
import type { MapSource } from './jobs.ts';
import type { StoreDirectory } from './store-directory.ts';
import type { VerifiedFiles } from './verified-files.ts';

export const manifestName = 'manifest.json';
const condemnedName = 'condemned'; // Deleted as soon as nothing stands on it.

interface Cached {
  readonly print: string;
  readonly parsed: Parsed<SnapshotManifest>;
}

export class CommittedSnapshots implements CommittedFiles {
  readonly #directory: StoreDirectory;
  readonly #verified: VerifiedFiles;
  readonly #manifests = new Map<string, Cached>();

  constructor(directory: StoreDirectory, verified: VerifiedFiles) {
    this.#directory = directory;
    this.#verified = verified;
  }

  ids(): SnapshotId[] {
    return readdirSync(this.#directory.snapshots).filter(isSnapshotId);
  }

  // Undefined when there is no such snapshot.
  read(id: string): Parsed<SnapshotManifest> | undefined {
    const path = this.path(id, manifestName);
    const mark = this.#verified.mark(path);
    if (!mark) return existsSync(this.home(id)) ? { problem: 'manifest.json is missing' } : undefined;
    const print = `${mark.inode} ${mark.print}`;
    const cached = this.#manifests.get(id);
    if (cached?.print === print) return cached.parsed;
    const parsed = parseSnapshotManifest(readFileSync(path, 'utf8'), id);
    this.#manifests.set(id, { print, parsed });
    return parsed;
  }

  home(id: string): string {
    return join(this.#directory.snapshots, id);
  }

  path(id: string, name: string): string {
    return join(this.home(id), name);
  }

  vmstatePath(id: string): string {
    return this.path(id, vmstateName);
  }

  workingSetPath({ id, files }: SnapshotManifest): string {
    return files[workingSetName] ? this.path(id, workingSetName) : '';
  }

  mapSource({ id, files, machine }: SnapshotManifest): MapSource {
    if (files[headerName]) return { kind: 'header', path: this.path(id, headerName) };
    return { kind: 'flat', id, memoryBytes: machine.memoryBytes };
  }

  // The files of the builds that the header names, in its order.
  memoryFiles({ id, builds, files }: SnapshotManifest): MemoryFile[] {
    if (!files[headerName]) return [{ buildId: id, path: this.path(id, singleMemfileName), sumsPath: '' }];
    return builds
      .filter((build) => files[memfileName(build.id)])
      .map(({ id: buildId }) => ({
        buildId,
        path: this.path(id, memfileName(buildId)),
        sumsPath: files[sumsName(buildId)] ? this.path(id, sumsName(buildId)) : '',
      }));
  }

  layers({ id, builds }: SnapshotManifest) {
    return builds
      .filter((build) => build.diskLayer !== null)
      .map((build) => ({ id: build.id, path: this.path(id, build.diskLayer!) }));
  }

  layerBytes(id: string, build: string): number {
    return this.#realBytes(this.path(id, layerName(build)));
  }

  // What only this snapshot brought: its own build, disk layer and metadata.
  ownBytes(id: string): number {
    const own = [manifestName, vmstateName, workingSetName, headerName, singleMemfileName];
    const names = [...own, memfileName(id), sumsName(id), layerName(id)];
    return names.reduce((sum, name) => sum + this.#realBytes(this.path(id, name)), 0);
  }

  isCondemned(id: string): boolean {
    return existsSync(this.path(id, condemnedName));
  }

  condemn(id: string): void {
    if (existsSync(this.home(id))) writeFileSync(this.path(id, condemnedName), '');
  }

  async publish(prepared: string, id: string, isCondemned: boolean): Promise<void> {
    if (isCondemned) writeFileSync(join(prepared, condemnedName), '');
    await this.#directory.publish(prepared, this.home(id));
  }

  async remove(id: string): Promise<void> {
    this.#manifests.delete(id);
    const retired = await this.#directory.retire(this.home(id));
    if (retired !== undefined) await this.#verified.remove(retired);
  }

  #realBytes(path: string): number {
    const file = lstatSync(path, { throwIfNoEntry: false });
    return file ? realBytesOf(file) : 0;
  }
}
