// Compares committed snapshots with their manifests. What was verified and has not changed since is not read again.
import { existsSync, renameSync, rmSync, statSync } from 'node:fs';

import { syncDirectory } from '@wrenn/kit/durable-file';
import { WrennError } from '@wrenn/kit/errors';
import type { SnapshotId } from '@wrenn/kit/ids';

import type { DiskBackend } from '../domain/disk-backend.ts';
import { buildOf, generationOf, memfileName, sumsName, workingSetName } from '../domain/snapshot.ts';
import { KeyedLocks } from '../domain/keyed-locks.ts';
import { type CareFiles, corrupt } from '../domain/snapshot-care.ts';
import type { Damage, SnapshotCheck } from '../domain/snapshot-parts.ts';
import type { FileFacts, SnapshotManifest, StagedRecord } from '../domain/snapshot-manifest.ts';
import type { CommittedSnapshots } from './committed-snapshots.ts';
import type { FileCheck } from './file-check.ts';
import type { JobThread } from './job-thread.ts';
import { requireLayer } from './layer-check.ts';
import type { StagedSnapshots } from './staged-snapshots.ts';
import type { StoreDirectory } from './store-directory.ts';
import type { VerifiedFiles } from './verified-files.ts';

export interface SnapshotCheckerParts {
  readonly directory: StoreDirectory;
  readonly committed: CommittedSnapshots;
  readonly staged: StagedSnapshots;
  readonly verified: VerifiedFiles;
  readonly backend: DiskBackend;
  readonly thread: JobThread;
}

export class SnapshotChecker implements SnapshotCheck, CareFiles {
  readonly #parts: SnapshotCheckerParts;
  readonly #locks = new KeyedLocks();

  constructor(parts: SnapshotCheckerParts) {
    this.#parts = parts;
  }

  // With `isFull` every byte is read again.
  async damages(manifest: SnapshotManifest, isFull: boolean, signal?: AbortSignal): Promise<Damage[]> {
    const checks = Object.entries(manifest.files).map(([file, facts]) => ({
      file,
      ...this.#check(manifest, file, facts),
    }));
    const due = checks.filter(
      ({ mark, expected }) => isFull || !mark || !this.#parts.verified.isVerified(mark, expected),
    );
    if (due.length === 0) return [];
    const inputs: FileCheck[] = due.map(({ path, facts, sumsPath }) => ({ path, facts, sumsPath }));
    const problems = await this.#parts.thread.run('check', inputs, signal);
    const damages: Damage[] = [];
    for (const [index, { file, mark, expected }] of due.entries()) {
      const problem = problems[index] ?? '';
      if (problem === '' && mark) this.#parts.verified.accept(mark, expected);
      if (problem !== '') damages.push({ file, generation: generationOf(manifest, file), problem });
    }
    // What is wrong with sums is why their memfile cannot be checked.
    return damages.sort((a, b) => rank(a) - rank(b));
  }

  async require(manifest: SnapshotManifest, signal?: AbortSignal): Promise<boolean> {
    // Many restores of one snapshot read it once.
    const damages = await this.#locks.exclusive(manifest.id, () => this.damages(manifest, false, signal));
    const serious = damages.find(({ file }) => file !== workingSetName);
    if (serious) throw corrupt(manifest.id, serious);
    return damages.length === 0;
  }

  requireLayer(record: StagedRecord): Promise<void> {
    const { directory, staged, backend } = this.#parts;
    const layer = { id: record.id, path: staged.layerPath(record.id) };
    return requireLayer(backend, layer, record, directory.imagePath(record.image, record.imageDigest));
  }

  requireImage(image: string, digest: string): void {
    if (existsSync(this.#parts.directory.imagePath(image, digest))) return;
    throw new WrennError('IMAGE_CORRUPT', `image ${image} ${digest} is gone; import it again`, { meta: { image } });
  }

  async imageProblem({ image, imageDigest }: SnapshotManifest, signal?: AbortSignal): Promise<string> {
    const path = this.#parts.directory.imagePath(image, imageDigest);
    const bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    const facts = { bytes, sha256: imageDigest.slice('sha256:'.length) };
    const [problem = ''] = await this.#parts.thread.run('check', [{ path, facts, sumsPath: '' }], signal);
    return problem === '' ? '' : `the image ${image} ${imageDigest} ${problem}`;
  }

  async replace(manifest: SnapshotManifest, file: string, donor: SnapshotId, signal?: AbortSignal): Promise<boolean> {
    const { committed, verified, thread } = this.#parts;
    const from = committed.path(donor, file);
    if (!existsSync(from)) return false;
    const { facts, sumsPath, path } = this.#check(manifest, file, manifest.files[file]!);
    const [problem] = await thread.run('check', [{ path: from, facts, sumsPath }], signal);
    if (problem !== '') return false;
    const beside = `${path}.repaired`;
    rmSync(beside, { force: true });
    verified.link(from, beside);
    // Of two links to one file a rename would keep both.
    rmSync(path, { force: true });
    renameSync(beside, path);
    await syncDirectory(committed.home(manifest.id));
    return true;
  }

  // Notes files that this store has just written; those it linked keep what was known of them.
  accept(manifest: SnapshotManifest): void {
    for (const [file, facts] of Object.entries(manifest.files)) {
      const { mark, expected } = this.#check(manifest, file, facts);
      if (mark && ['', manifest.id].includes(buildOf(file))) this.#parts.verified.accept(mark, expected);
    }
  }

  #check(manifest: SnapshotManifest, file: string, facts: FileFacts) {
    const path = this.#parts.committed.path(manifest.id, file);
    const build = buildOf(file);
    const sums = build !== '' && file === memfileName(build) ? manifest.files[sumsName(build)] : undefined;
    const sumsPath = sums ? this.#parts.committed.path(manifest.id, sumsName(build)) : '';
    const expected = JSON.stringify([facts, sums]);
    return { path, facts, sumsPath, expected, mark: this.#parts.verified.mark(path) };
  }
}

const rank = ({ file }: Damage) => (file.endsWith('.sums') ? 0 : 1);
