// Where the memory of a snapshot lies right now: a committed one in its directory, a staged one in its frozen RAM
// file and in its parent's. Callers hold the locks of the snapshot and its staged ancestors.
import { join } from 'node:path';

import type { SnapshotId } from '@wrenn/kit/ids';

import { type MemoryFile, type OpenedMemory, headerName, vmstateName, workingSetName } from '../domain/snapshot.ts';
import { type StagedRecord, readable } from '../domain/snapshot-manifest.ts';
import type { SnapshotMemoryFiles } from '../domain/snapshot-parts.ts';
import type { CommittedSnapshots } from './committed-snapshots.ts';
import { tellingDiskFull } from './disk-full.ts';
import type { JobThread } from './job-thread.ts';
import type { MapSource, ParentMemory } from './jobs.ts';
import type { RamDirectory } from './ram-directory.ts';
import type { StagedSnapshots } from './staged-snapshots.ts';

interface Resolved {
  readonly form: string; // Changes when an ancestor is committed: its blocks lie elsewhere then.
  readonly map: MapSource;
  readonly files: readonly MemoryFile[];
  readonly runCount: number;
  readonly workingSet: { readonly path: string; readonly isBase: boolean }; // Of the committed one below all staged.
}

export interface SnapshotMemoryParts {
  readonly staged: StagedSnapshots;
  readonly committed: CommittedSnapshots;
  readonly ram: RamDirectory;
  readonly thread: JobThread;
}

export class SnapshotMemory implements SnapshotMemoryFiles {
  readonly #parts: SnapshotMemoryParts;
  readonly #resolved = new Map<string, { readonly form: string; readonly resolved: Promise<Resolved> }>();

  constructor(parts: SnapshotMemoryParts) {
    this.#parts = parts;
  }

  open(id: SnapshotId, diskId: string, isBaseSound: boolean): Promise<OpenedMemory> {
    return tellingDiskFull(() => this.#open(id, diskId, isBaseSound));
  }

  // What the commit of its child reads.
  async parentOf(id: SnapshotId): Promise<ParentMemory> {
    const { map, files } = await this.#resolve(id);
    return { map, files, builds: files.map((file) => file.buildId) };
  }

  forget(id: SnapshotId): void {
    this.#resolved.delete(id);
  }

  async #open(id: SnapshotId, diskId: string, isBaseSound: boolean): Promise<OpenedMemory> {
    const { staged, committed, ram, thread } = this.#parts;
    const { map, files, runCount, workingSet } = await this.#resolve(id);
    const workingSetPath = workingSet.isBase && !isBaseSound ? '' : workingSet.path;
    const vmstatePath = staged.find(id) ? staged.vmstatePath(id) : committed.vmstatePath(id);
    const opened = { files, runCount, vmstatePath, workingSetPath };
    if (map.kind === 'flat') {
      // The older form has no header to give out.
      const headerPath = ram.placeFor(diskId, headerName);
      await thread.run('mapFlat', { id, memoryBytes: map.memoryBytes, headerPath });
      return { ...opened, headerPath };
    }
    if (!staged.find(id)) return { ...opened, headerPath: map.path };
    return this.#handOut(id, diskId, { ...opened, headerPath: map.path });
  }

  // Gives out links, since the commit will remove these files.
  #handOut(id: SnapshotId, diskId: string, opened: OpenedMemory): OpenedMemory {
    const { staged, ram } = this.#parts;
    const names: Record<string, string> = { [headerName]: opened.headerPath, [vmstateName]: opened.vmstatePath };
    const isOwnSet = opened.workingSetPath === staged.workingSetPath(id);
    if (isOwnSet) names[workingSetName] = opened.workingSetPath;
    for (const { buildId, path } of opened.files) if (path === staged.ramPath(buildId)) names[`ram.${buildId}`] = path;
    const paths = ram.handOut(diskId, names);
    return {
      ...opened,
      headerPath: paths[headerName]!,
      files: opened.files.map((file) => ({ ...file, path: paths[`ram.${file.buildId}`] ?? file.path })),
      vmstatePath: paths[vmstateName]!,
      workingSetPath: paths[workingSetName] ?? opened.workingSetPath,
    };
  }

  async #resolve(id: SnapshotId): Promise<Resolved> {
    const record = this.#parts.staged.find(id);
    if (!record) return this.#resolveCommitted(id);
    const parent = record.parentId === null ? undefined : await this.#resolve(record.parentId);
    const form = `${id} ${parent?.form ?? ''}`;
    const known = this.#resolved.get(id);
    if (known?.form === form) return known.resolved;
    const resolved = this.#resolveStaged(record, form, parent);
    this.#resolved.set(id, { form, resolved });
    resolved.catch(() => this.#resolved.delete(id));
    return resolved;
  }

  #resolveCommitted(id: SnapshotId): Resolved {
    const { committed } = this.#parts;
    const manifest = readable(id, committed.read(id));
    return {
      form: 'committed',
      map: committed.mapSource(manifest),
      files: committed.memoryFiles(manifest),
      runCount: manifest.memoryRuns,
      workingSet: { path: committed.workingSetPath(manifest), isBase: true },
    };
  }

  async #resolveStaged(record: StagedRecord, form: string, parent: Resolved | undefined): Promise<Resolved> {
    const { staged, thread } = this.#parts;
    const { id } = record;
    const path = join(staged.home(id), headerName);
    const ramPath = staged.ramPath(id);
    const { memoryBytes } = record.machine;
    const { runCount, builds } = parent
      ? await thread.run('mapStaged', { id, memoryBytes, ramPath, parent: parent.map, headerPath: path })
      : await thread.run('mapFlat', { id, memoryBytes, headerPath: path });
    const own = { buildId: id, path: ramPath, sumsPath: '' };
    const files = builds.map((build) =>
      build.id === id ? own : parent!.files.find((file) => file.buildId === build.id)!,
    );
    const ownSet = staged.workingSetPath(id);
    const inherited = parent?.workingSet ?? { path: '', isBase: false };
    const workingSet = ownSet === undefined ? inherited : { path: ownSet, isBase: false };
    return { form, map: { kind: 'header', path }, files, runCount, workingSet };
  }
}
