// Snapshots whose commit has not ended. Staging moves what a frozen VM left: `staging.json` says first what is to be
// moved, and becomes `staged.json` last. Each step between is a rename, so any life can finish what one began.
import {
  type Stats,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { chmod, chown, rename } from 'node:fs/promises';
import { join } from 'node:path';

import { WrennError, invalidField } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import { isSnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { inSpan } from '@wrenn/kit/telemetry/span';

import { ramName, vmstateName, workingSetName } from '../domain/snapshot.ts';
import { type StagedRecord, parseStagedRecord, stagedRecordText } from '../domain/snapshot-manifest.ts';
import type { StagedFiles } from '../domain/snapshot-parts.ts';
import { tellingDiskFull } from './disk-full.ts';
import { realBytesOf } from './files.ts';
import type { RamDirectory } from './ram-directory.ts';
import type { StoreDirectory } from './store-directory.ts';
import { diskName } from './stored-disks.ts';
import type { VerifiedFiles } from './verified-files.ts';

const begunName = 'staging.json';
const doneName = 'staged.json';
const condemnedName = 'condemned'; // Deleted as soon as nothing stands on it.

export interface StagedSnapshotsParts {
  readonly ram: RamDirectory;
  readonly directory: StoreDirectory;
  readonly verified: VerifiedFiles;
  readonly log: Log;
}

export class StagedSnapshots implements StagedFiles {
  readonly #ram: RamDirectory;
  readonly #directory: StoreDirectory;
  readonly #verified: VerifiedFiles;
  readonly #log: Log;
  readonly #records = new Map<string, StagedRecord>();
  readonly #begun = new Map<string, StagedRecord>(); // What is being staged, which needs its parent already.

  constructor({ ram, directory, verified, log }: StagedSnapshotsParts) {
    this.#ram = ram;
    this.#directory = directory;
    this.#verified = verified;
    this.#log = log;
  }

  // Finishes what the last life began, and removes what cannot be finished or has been committed.
  async recover(isCommitted: (id: string) => boolean): Promise<void> {
    for (const id of readdirSync(this.#ram.staged)) {
      const record = isCommitted(id) ? undefined : this.#read(id);
      if (record && (await this.#finish(record))) this.#records.set(id, record);
      else await this.#remove(id);
    }
    // Without its RAM file, which a power cut took, a disk layer restores nothing.
    for (const id of readdirSync(this.#directory.staged)) if (!this.#records.has(id)) await this.#remove(id);
  }

  list(): StagedRecord[] {
    return [...this.#records.values()].sort((a, b) => a.createdAt.localeCompare(b.createdAt));
  }

  begun(): StagedRecord[] {
    return [...this.#begun.values(), ...this.list()];
  }

  find(id: string): StagedRecord | undefined {
    return this.#records.get(id);
  }

  async stage(record: StagedRecord): Promise<void> {
    const { id } = record;
    if (!this.#begun.has(id)) await inSpan('note', {}, () => this.#note(record));
    await failpoint('store.snapshot.stage-noted');
    if (!(await this.#finish(record))) {
      throw new WrennError('SOURCE_NOT_FOUND', `${record.frozenDirectory} lacks what a frozen VM leaves`);
    }
    this.#records.set(id, record);
    this.#begun.delete(id);
  }

  condemn(id: string): void {
    writeFileSync(join(this.home(id), condemnedName), '');
  }

  isCondemned(id: string): boolean {
    return existsSync(join(this.home(id), condemnedName));
  }

  async remove(id: string): Promise<void> {
    this.#records.delete(id);
    this.#begun.delete(id);
    await this.#remove(id);
  }

  home(id: string): string {
    return join(this.#ram.staged, id);
  }

  ramPath(id: string): string {
    return join(this.home(id), ramName);
  }

  vmstatePath(id: string): string {
    return join(this.home(id), vmstateName);
  }

  // Undefined when the VM left none.
  workingSetPath(id: string): string | undefined {
    const path = join(this.home(id), workingSetName);
    return existsSync(path) ? path : undefined;
  }

  layerPath(id: string): string {
    return join(this.#directory.staged, id, diskName);
  }

  realBytes(id: string): number {
    const paths = [this.ramPath(id), this.vmstatePath(id), this.workingSetPath(id), this.layerPath(id)];
    return paths
      .map((path) => (path === undefined ? undefined : statSync(path, { throwIfNoEntry: false })))
      .reduce((sum, file) => sum + (file ? realBytesOf(file) : 0), 0);
  }

  // Before anything is moved: afterwards nothing is refused any more.
  async #note(record: StagedRecord): Promise<void> {
    const home = this.home(record.id);
    requireFrozen(record, this.#ram.staged);
    await tellingDiskFull(async () => {
      try {
        rmSync(home, { recursive: true, force: true });
        mkdirSync(home, { mode: 0o700 });
        writeFileSync(join(home, begunName), stagedRecordText(record));
      } catch (error) {
        rmSync(home, { recursive: true, force: true });
        throw error;
      }
    });
    this.#begun.set(record.id, record);
  }

  // Every step is skipped where it has been done. False when files are missing.
  async #finish(record: StagedRecord): Promise<boolean> {
    const { id, sandboxId, frozenDirectory } = record;
    const home = this.home(id);
    if (existsSync(join(home, doneName))) return existsSync(this.ramPath(id)) && existsSync(this.layerPath(id));
    await inSpan('take memory', {}, async () => {
      for (const name of [ramName, vmstateName, workingSetName]) moveIn(frozenDirectory, home, name);
      await failpoint('store.snapshot.stage-memory-taken');
    });
    if (!existsSync(this.ramPath(id)) || !existsSync(this.vmstatePath(id))) return false;
    if (!(await inSpan('take disk', {}, () => this.#takeDisk(record)))) return false;
    await inSpan('note staged', {}, async () => {
      this.#ram.forget(sandboxId);
      renameSync(join(home, begunName), join(home, doneName));
    });
    await failpoint('store.snapshot.staged');
    return true;
  }

  async #takeDisk({ id, sandboxId }: StagedRecord): Promise<boolean> {
    if (!existsSync(this.layerPath(id)) && existsSync(join(this.#directory.disks, sandboxId, diskName))) {
      await rename(join(this.#directory.disks, sandboxId), join(this.#directory.staged, id));
    }
    await failpoint('store.snapshot.stage-disk-taken');
    if (!existsSync(this.layerPath(id))) return false;
    // No VM may change it any more, and those of any uid may read it.
    await chown(this.layerPath(id), 0, 0);
    await chmod(this.layerPath(id), 0o444);
    return true;
  }

  #read(id: string): StagedRecord | undefined {
    if (!isSnapshotId(id)) return undefined;
    for (const name of [doneName, begunName]) {
      const path = join(this.home(id), name);
      if (!existsSync(path)) continue;
      const parsed = parseStagedRecord(readFileSync(path, 'utf8'), id);
      if ('manifest' in parsed) return parsed.manifest;
      this.#log.error({ snapshot: id, problem: parsed.problem }, 'the record of a staged snapshot cannot be read');
    }
    return undefined;
  }

  async #remove(id: string): Promise<void> {
    const retired = await this.#directory.retire(join(this.#directory.staged, id));
    if (retired !== undefined) await this.#verified.remove(retired);
    this.#ram.discard(this.home(id));
  }
}

const maxVmstateBytes = 256 * 1024 * 1024;

// The directory was the VMM's, so what lies in it may be anything.
function requireFrozen({ frozenDirectory, machine }: StagedRecord, destination: string): void {
  const ram = frozenFile(frozenDirectory, ramName);
  const vmstate = frozenFile(frozenDirectory, vmstateName);
  if (!ram || !vmstate) throw notFrozen(ram ? vmstateName : ramName);
  if (ram.dev !== statSync(destination).dev) {
    throw invalidField('frozen_directory', 'must be on the RAM filesystem of the store');
  }
  frozenFile(frozenDirectory, workingSetName);
  if (vmstate.size > maxVmstateBytes) throw invalidField('frozen_directory', `vmstate has ${vmstate.size} bytes`);
  if (ram.size !== machine.memoryBytes)
    throw invalidField('machine.memory_bytes', `the RAM file has ${ram.size} bytes`);
}

function frozenFile(directory: string, name: string): Stats | undefined {
  const file = lstatSync(join(directory, name), { throwIfNoEntry: false });
  if (file && !file.isFile()) throw invalidField('frozen_directory', `${name} is no regular file`);
  return file;
}

const notFrozen = (name: string) => new WrennError('SOURCE_NOT_FOUND', `frozen_directory has no ${name}`);

function moveIn(from: string, to: string, name: string): void {
  try {
    renameSync(join(from, name), join(to, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
