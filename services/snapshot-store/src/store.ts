// Wires the parts of the store; main.ts and the tests do it alike.
import type { Clock } from '@wrenn/kit/clock';
import type { Log } from '@wrenn/kit/log';
import type { RunProgram } from '@wrenn/kit/run-program';

import { CommittedSnapshots } from './adapters/committed-snapshots.ts';
import { JobThread } from './adapters/job-thread.ts';
import { Qcow2Overlay } from './adapters/qcow2-overlay.ts';
import { RamDirectory } from './adapters/ram-directory.ts';
import { SnapshotChecker } from './adapters/snapshot-checker.ts';
import { SnapshotMemory } from './adapters/snapshot-memory.ts';
import { SnapshotWriter } from './adapters/snapshot-writer.ts';
import { StagedSnapshots } from './adapters/staged-snapshots.ts';
import { StoreDirectory } from './adapters/store-directory.ts';
import { StoredDisks } from './adapters/stored-disks.ts';
import { StoredImages } from './adapters/stored-images.ts';
import { VerifiedFiles } from './adapters/verified-files.ts';
import { KeyedLocks } from './domain/keyed-locks.ts';
import { SnapshotCare } from './domain/snapshot-care.ts';
import { SnapshotStore } from './domain/snapshot-store.ts';
import { Snapshots } from './domain/snapshots.ts';

export interface StoreOptions {
  readonly dataDir: string;
  readonly ramDir: string;
  readonly commitRetryMs: number;
  readonly run: RunProgram;
  readonly clock: Clock;
  readonly log: Log;
}

export interface OpenStore {
  readonly store: SnapshotStore;
  readonly snapshots: Snapshots;
  close(): Promise<void>;
}

const worker = new URL('snapshot-worker.ts', import.meta.url);

// Returns once everything that the last life left is taken up, so before anybody is served.
export async function openStore({ dataDir, ramDir, commitRetryMs, run, clock, log }: StoreOptions): Promise<OpenStore> {
  const directory = await StoreDirectory.open(dataDir);
  const ram = await RamDirectory.open(ramDir, log);
  const backend = new Qcow2Overlay(run);
  const verified = new VerifiedFiles();
  // Commits and checks take their time; what a restore waits for has a thread of its own. A commit stands back for
  // the VM that goes on at the same moment.
  const commits = new JobThread(worker, { nice: 10 });
  const [restores, checks] = [new JobThread(worker, { nice: 0 }), new JobThread(worker, { nice: 0 })];
  const images = new StoredImages({ directory, run, clock });
  const disks = new StoredDisks({ directory, ram, backend, verified, clock });
  const staged = new StagedSnapshots({ ram, directory, verified, log });
  const committed = new CommittedSnapshots(directory, verified);
  const memory = new SnapshotMemory({ staged, committed, ram, thread: restores });
  const preparer = new SnapshotWriter({ directory, staged, committed, memory, verified, backend, thread: commits });
  const check = new SnapshotChecker({ directory, committed, staged, verified, backend, thread: checks });
  const locks = new KeyedLocks();
  const snapshotUsers = () => snapshots.imageUsers();
  const store = new SnapshotStore({ images, disks, snapshotUsers, locks, log });
  const collectImages = (image: string) => store.collectImages(image);
  const care = new SnapshotCare(check);
  const parts = { staged, committed, memory, preparer, check, care, disks, locks, collectImages, clock, log };
  const snapshots = new Snapshots({ ...parts, retryMs: commitRetryMs });
  // The first restore must not wait for a thread to start.
  await Promise.all([commits.run('check', []), restores.run('check', [])]);
  await ram.sweep();
  await staged.recover((id) => committed.read(id) !== undefined);
  ram.forgetAllBut((id) => disks.exists(id));
  await store.open();
  await snapshots.start();
  return {
    store,
    snapshots,
    async close() {
      await snapshots.close();
      await Promise.all([commits, restores, checks].map((thread) => thread.close()));
      await ram.close();
      directory.close();
    },
  };
}
