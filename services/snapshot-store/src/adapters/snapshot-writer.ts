// Makes the directory of a snapshot in tmp/, durable in all its parts. What it takes from its parent are links.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { syncDirectory, writeDurably } from '@wrenn/kit/durable-file';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SnapshotId } from '@wrenn/kit/ids';
import { inSpan } from '@wrenn/kit/telemetry/span';

import type { DiskBackend } from '../domain/disk-backend.ts';
import { blocksOf } from '../domain/memory-map.ts';
import {
  type Layer,
  headerName,
  layerName,
  memfileName,
  singleMemfileName,
  sumsName,
  vmstateName,
  workingSetName,
} from '../domain/snapshot.ts';
import {
  type FileFacts,
  type SnapshotManifest,
  type StagedRecord,
  buildsOver,
  snapshotManifestText,
} from '../domain/snapshot-manifest.ts';
import type { PreparedSnapshot, SnapshotPreparer } from '../domain/snapshot-parts.ts';
import { type CommittedSnapshots, manifestName } from './committed-snapshots.ts';
import { tellingDiskFull } from './disk-full.ts';
import type { JobThread } from './job-thread.ts';
import type { ParentMemory } from './jobs.ts';
import { requireLayer } from './layer-check.ts';
import type { SnapshotMemory } from './snapshot-memory.ts';
import type { StagedSnapshots } from './staged-snapshots.ts';
import type { StoreDirectory } from './store-directory.ts';
import type { VerifiedFiles } from './verified-files.ts';

const pageBytes = 4096;

export interface SnapshotWriterParts {
  readonly directory: StoreDirectory;
  readonly staged: StagedSnapshots;
  readonly committed: CommittedSnapshots;
  readonly memory: SnapshotMemory;
  readonly verified: VerifiedFiles;
  readonly backend: DiskBackend;
  readonly thread: JobThread;
}

export class SnapshotWriter implements SnapshotPreparer {
  readonly #parts: SnapshotWriterParts;

  constructor(parts: SnapshotWriterParts) {
    this.#parts = parts;
  }

  prepare(record: StagedRecord, parent: SnapshotManifest | undefined, signal: AbortSignal): Promise<PreparedSnapshot> {
    return tellingDiskFull(async () => {
      const path = await this.#parts.directory.stage(0o700);
      try {
        return { path, manifest: await this.#fill(path, record, parent, signal) };
      } catch (error) {
        await this.#parts.verified.remove(path);
        throw error;
      }
    });
  }

  discard({ path }: PreparedSnapshot): Promise<void> {
    return this.#parts.verified.remove(path);
  }

  async #fill(
    directory: string,
    record: StagedRecord,
    parent: SnapshotManifest | undefined,
    signal: AbortSignal,
  ): Promise<SnapshotManifest> {
    const { staged, memory, thread } = this.#parts;
    const { id, generation, machine } = record;
    const { memoryBytes } = machine;
    const from = parent && (await memory.parentOf(parent.id));
    const ramPath = staged.ramPath(id);
    const order = { id, generation, ramPath, memoryBytes, parent: from, directory };
    const { builds, runCount } = await inSpan('write memory', { 'wrenn.memory.bytes': memoryBytes }, async (span) => {
      const written = await thread.run('writeMemory', order, signal);
      const { storedBytes } = written.builds[0]!;
      span.setAttributes({ 'wrenn.memory.stored_bytes': storedBytes, 'wrenn.memory.pages': storedBytes / pageBytes });
      span.setAttribute('wrenn.memory.read_bytes', written.readBytes);
      await failpoint('store.snapshot.memory-written');
      return written;
    });
    await inSpan('copy state', {}, () => this.#copySmall(directory, record, parent));
    await inSpan('add disk layer', {}, async () => {
      await this.#addLayer(directory, record, parent, signal);
      await failpoint('store.snapshot.layer-added');
    });
    const files = await inSpan('seal', {}, () => this.#sealOwn(directory, id, builds[0]!.storedBytes, signal));
    await inSpan('link parents', { 'wrenn.snapshot.builds': builds.length }, async () => {
      for (const build of builds.slice(1))
        Object.assign(files, await this.#linkBuild(directory, build.id, from!, parent!));
    });
    const diskLayer = layerName(id);
    const own = { id, generation, memoryBytes: builds[0]!.storedBytes, diskLayer };
    const chain = buildsOver(own, parent);
    for (const { diskLayer: name } of chain.slice(1))
      if (name !== null) this.#linkLayer(directory, name, parent!, files);
    await failpoint('store.snapshot.parents-linked');
    const { frozenDirectory: _frozenDirectory, format: _format, ...facts } = record;
    const stored = chain.map((build) => (files[memfileName(build.id)] ? build : { ...build, memoryBytes: 0 }));
    const manifest = { format: 'wrenn.snapshot/1' as const, ...facts, memoryRuns: runCount, builds: stored, files };
    await inSpan('write manifest', {}, async () => {
      await syncDirectory(directory);
      await writeDurably(join(directory, manifestName), snapshotManifestText(manifest), 0o444);
    });
    await failpoint('store.snapshot.manifest-written');
    return manifest;
  }

  // The working set is the last one that was recorded and is sound.
  async #copySmall(directory: string, { id, machine }: StagedRecord, parent: SnapshotManifest | undefined) {
    const { staged, committed, thread } = this.#parts;
    const workingSets = [staged.workingSetPath(id) ?? '', parent ? committed.workingSetPath(parent) : ''];
    await thread.run('copy', {
      copies: [{ from: staged.vmstatePath(id), to: join(directory, vmstateName) }],
      workingSets: workingSets.filter((path) => path !== ''),
      workingSetTo: join(directory, workingSetName),
      memoryBlocks: blocksOf(machine.memoryBytes),
    });
  }

  // A Full has its disk in one layer too.
  async #addLayer(directory: string, record: StagedRecord, parent: SnapshotManifest | undefined, signal: AbortSignal) {
    const { staged, committed, backend, directory: store } = this.#parts;
    const { id, image, imageDigest, diskBytes: virtualBytes } = record;
    const basePath = store.imagePath(image, imageDigest);
    const frozen: Layer = { id, path: staged.layerPath(id) };
    await requireLayer(backend, frozen, record, basePath);
    const to = join(directory, layerName(id));
    if (record.generation > 0 || !parent) return this.#parts.verified.link(frozen.path, to);
    const layers = [frozen, ...committed.layers(parent)].map((layer) => layer.path);
    await backend.collapse({ layers, basePath, virtualBytes }, to, signal);
  }

  async #sealOwn(directory: string, id: SnapshotId, storedBytes: number, signal: AbortSignal) {
    const small = [headerName, sumsName(id), vmstateName, workingSetName].filter((name) =>
      existsSync(join(directory, name)),
    );
    const order = [
      ...small.map((name) => ({ name, sum: 'sha256' as const })),
      { name: layerName(id), sum: 'crc32' as const },
    ];
    const inputs = order.map(({ name, sum }) => ({ path: join(directory, name), sum }));
    const facts = await this.#parts.thread.run('seal', inputs, signal);
    const files: Record<string, FileFacts> = { [memfileName(id)]: { bytes: storedBytes } };
    for (const [index, { name }] of order.entries()) files[name] = facts[index]!;
    return files;
  }

  async #linkBuild(directory: string, id: SnapshotId, from: ParentMemory, parent: SnapshotManifest) {
    const { thread, verified } = this.#parts;
    const file = from.files[from.builds.indexOf(id)]!;
    const [name, sums] = [memfileName(id), sumsName(id)];
    verified.link(file.path, join(directory, name));
    if (file.sumsPath !== '') {
      verified.link(file.sumsPath, join(directory, sums));
      return { [name]: parent.files[name]!, [sums]: parent.files[sums]! };
    }
    // The older form has no sums: its file as a whole has one, and what is linked now gets its own.
    const facts = await thread.run('sum', { path: file.path, to: join(directory, sums) });
    return { [name]: { bytes: parent.files[singleMemfileName]!.bytes }, [sums]: facts };
  }

  #linkLayer(directory: string, name: string, parent: SnapshotManifest, files: Record<string, FileFacts>) {
    this.#parts.verified.link(this.#parts.committed.path(parent.id, name), join(directory, name));
    files[name] = parent.files[name]!;
  }
}
