// Staged snapshots become committed ones; both open alike. A deleted one that disks or staged snapshots stand on is
// condemned: nobody sees it any more, and it goes when the last of those does.
import { WrennError, invalidField, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import { inOwnTrace, inSpan, setAttributes } from '@wrenn/kit/telemetry/span';

import { CommitQueue } from './commit-queue.ts';
import { nextGeneration } from './generations.ts';
import type { ImageUser, StoredDisk } from './references.ts';
import type { StoredSnapshot } from './snapshot.ts';
import { type SnapshotManifest, type StagedRecord, noSnapshot, readable } from './snapshot-manifest.ts';
import type { OpenedSnapshot, SnapshotsParts, StageRequest } from './snapshot-parts.ts';
import { diskKey } from './snapshot-store.ts';

// A longer chain of staged ones would not fit a header.
const maxStagedChain = 48;
const snapshotKey = (id: string) => `snapshot ${id}`;

export class Snapshots {
  readonly #parts: SnapshotsParts;
  readonly #commits: CommitQueue;
  // Deleted ones that nothing shows any more; the files say the same where it must survive.
  readonly #condemned = new Set<SnapshotId>();
  #collecting = Promise.resolve();

  constructor(parts: SnapshotsParts) {
    this.#parts = parts;
    this.#commits = new CommitQueue({
      commit: (id, signal, cause) =>
        inOwnTrace('commit', { 'wrenn.snapshot.id': id }, [cause], () => this.#commit(id, signal)),
      parentOf: (id) => parts.staged.find(id)?.parentId ?? null,
      retryMs: parts.retryMs,
    });
  }

  // Takes up the commits of the last life.
  async start(): Promise<void> {
    const { staged, committed, log } = this.#parts;
    for (const id of committed.ids()) {
      const parsed = committed.read(id);
      if (parsed && 'problem' in parsed) log.error({ snapshot: id, problem: parsed.problem }, 'snapshot is corrupt');
      if (committed.isCondemned(id)) this.#condemned.add(id);
    }
    for (const { id } of staged.list()) {
      if (staged.isCondemned(id)) this.#condemned.add(id);
      this.#commits.add(id);
    }
    await this.collect();
  }

  stage(request: StageRequest): Promise<StoredSnapshot> {
    const { id, sandboxId } = request;
    const { locks, staged, log } = this.#parts;
    return locks.exclusive(diskKey(sandboxId), () =>
      locks.exclusive(snapshotKey(id), async () => {
        if (this.#isStagedAlready(request)) return this.#show(id);
        // One that was begun and failed is finished as it was begun.
        const begun = async () => staged.begun().find((each) => each.id === id) ?? this.#recordOf(request);
        const record = await inSpan('look up', {}, begun);
        await staged.stage(record);
        const { generation, parentId } = record;
        log.info({ snapshot: id, sandbox: sandboxId, generation, parent: parentId }, 'snapshot staged');
        return inSpan('measure', {}, async () => {
          this.#commits.add(id);
          return this.#show(id);
        });
      }),
    );
  }

  // With `waitDurable` it resolves once the snapshot is committed and fails as the commit does.
  async get(id: SnapshotId, waitDurable: boolean, signal: AbortSignal): Promise<StoredSnapshot> {
    this.#requireKnown(id);
    if (waitDurable) await orAborted(this.#commits.ended(id), signal);
    this.#requireKnown(id);
    return this.#show(id);
  }

  list(): StoredSnapshot[] {
    return this.#ids()
      .filter((id) => !this.#condemned.has(id))
      .map((id) => this.#show(id))
      .sort((a, b) => a.createdAt.localeCompare(b.createdAt) || a.id.localeCompare(b.id));
  }

  async open(id: SnapshotId, diskId: SandboxId, signal: AbortSignal): Promise<OpenedSnapshot> {
    this.#requireKnown(id);
    const last = this.#stagedChain(id)[maxStagedChain];
    if (last !== undefined) await orAborted(this.#commits.ended(last), signal);
    return this.#parts.locks.exclusive(diskKey(diskId), () =>
      this.#holdingChain(id, () => {
        this.#requireKnown(id);
        return this.#openNow(id, diskId, signal);
      }),
    );
  }

  // What is wrong with it; a staged one is checked by its commit.
  async verify(id: SnapshotId, signal: AbortSignal): Promise<string[]> {
    this.#requireKnown(id);
    await orAborted(this.#commits.ended(id), signal);
    return this.#withManifest(id, (manifest) => this.#parts.care.problems(manifest, signal));
  }

  async repair(id: SnapshotId, signal: AbortSignal): Promise<{ repaired: string[]; problems: string[] }> {
    this.#requireKnown(id);
    await orAborted(this.#commits.ended(id), signal);
    const repaired = await this.#parts.locks.exclusive(snapshotKey(id), async () => {
      const parsed = this.#parts.committed.read(id);
      if (!parsed) throw noSnapshot(id);
      if ('problem' in parsed) return { repaired: [], problems: [parsed.problem] };
      const donors = this.#parts.committed.ids().filter((other) => other !== id);
      return this.#parts.care.repair(parsed.manifest, donors, signal);
    });
    this.#parts.log.info({ snapshot: id, ...repaired }, 'snapshot repaired');
    return repaired;
  }

  // Shows it no more at once; its files go when nothing stands on them.
  async delete(id: SnapshotId): Promise<void> {
    if (!this.#exists(id)) return;
    this.#condemned.add(id);
    await this.collect();
  }

  // Removes condemned snapshots that nothing stands on any more. Called whenever a disk is gone.
  collect(): Promise<void> {
    const collected = this.#collecting.then(() => this.#collectNow());
    this.#collecting = collected.catch(() => undefined);
    return collected;
  }

  // What needs images, for deciding which of them may go.
  imageUsers(): ImageUser[] {
    const { staged, committed } = this.#parts;
    const users: ImageUser[] = staged
      .begun()
      .map(({ id, image, imageDigest }) => ({ kind: 'snapshot', id, image, imageDigest }));
    for (const id of committed.ids()) {
      const parsed = committed.read(id);
      if (!parsed) continue;
      const { image, imageDigest } = 'manifest' in parsed ? parsed.manifest : { image: '', imageDigest: '' };
      users.push({ kind: 'snapshot', id, image, imageDigest });
    }
    return users;
  }

  close(): Promise<void> {
    return this.#commits.close();
  }

  #withManifest(id: SnapshotId, work: (manifest: SnapshotManifest) => Promise<string[]>): Promise<string[]> {
    return this.#parts.locks.shared(snapshotKey(id), async () => {
      const parsed = this.#parts.committed.read(id);
      if (!parsed) throw noSnapshot(id);
      return 'problem' in parsed ? [parsed.problem] : work(parsed.manifest);
    });
  }

  async #collectNow(): Promise<void> {
    if (this.#condemned.size === 0) return;
    const disks = await this.#parts.disks.list();
    let hasRemoved = false;
    for (const id of [...this.#condemned]) {
      if (this.#isNeeded(id, disks)) this.#mark(id);
      else hasRemoved = (await this.#remove(id)) || hasRemoved;
    }
    // What one of them stood on may go now.
    if (hasRemoved) await this.#collectNow();
  }

  #isStagedAlready({ id, sandboxId, parentId }: StageRequest): boolean {
    const { staged, committed } = this.#parts;
    const parsed = committed.read(id);
    const known = staged.find(id) ?? (parsed && readable(id, parsed));
    if (!known) return false;
    if (known.sandboxId === sandboxId && known.parentId === parentId) return true;
    throw new WrennError('SNAPSHOT_EXISTS', `snapshot ${id} is of sandbox ${known.sandboxId}`, {
      meta: { snapshot: id },
    });
  }

  #recordOf(request: StageRequest): StagedRecord {
    const { disks, staged, committed, clock } = this.#parts;
    const { sandboxId, parentId, machine } = request;
    const disk = disks.peek(sandboxId);
    if (!disk) {
      throw new WrennError('DISK_NOT_FOUND', `there is no sound disk ${sandboxId}`, { meta: { disk: sandboxId } });
    }
    if (disk.parentId !== parentId) {
      throw invalidField('parent_id', `the disk stands on ${disk.parentId ?? 'no snapshot'}`);
    }
    const parent =
      parentId === null ? undefined : (staged.find(parentId) ?? readable(parentId, committed.read(parentId)));
    if (parent && parent.machine.memoryBytes !== machine.memoryBytes) {
      throw invalidField('machine.memory_bytes', `the parent has ${parent.machine.memoryBytes} bytes of memory`);
    }
    return {
      format: 'wrenn.staged-snapshot/1',
      ...request,
      generation: nextGeneration(parent),
      image: disk.image,
      imageDigest: disk.imageDigest,
      diskBytes: disk.virtualBytes,
      createdAt: clock.now().toISOString(),
    };
  }

  async #openNow(id: SnapshotId, diskId: SandboxId, signal: AbortSignal): Promise<OpenedSnapshot> {
    const { staged, committed, memory, check, disks, log } = this.#parts;
    if (disks.exists(diskId)) throw new WrennError('DISK_EXISTS', `disk ${diskId} exists`, { meta: { disk: diskId } });
    const chain = this.#stagedChain(id).map((each) => staged.find(each)!);
    const baseId = chain.length === 0 ? id : chain.at(-1)!.parentId;
    const base = baseId === null ? undefined : readable(baseId, committed.read(baseId));
    const { image, imageDigest, diskBytes: virtualBytes } = chain[0] ?? base!;
    check.requireImage(image, imageDigest);
    const isBaseSound = await inSpan('check', {}, async () => {
      const isSound = base === undefined || (await check.require(base, signal));
      await Promise.all(chain.map((record) => check.requireLayer(record)));
      return isSound;
    });
    const layers = [
      ...chain.map((record) => ({ id: record.id, path: staged.layerPath(record.id) })),
      ...(base ? committed.layers(base) : []),
    ];
    const order = { id: diskId, parentId: id, layers, image, imageDigest, virtualBytes };
    const outcomes = await Promise.allSettled([
      inSpan('open memory', {}, () => memory.open(id, diskId, isBaseSound)),
      inSpan('make disk', { 'wrenn.disk.layers': layers.length }, () => disks.createOver(order)),
    ]);
    const [opened, disk] = outcomes;
    if (opened.status === 'fulfilled' && disk.status === 'fulfilled') {
      log.info(
        { snapshot: id, sandbox: diskId, layers: layers.length, runs: opened.value.runCount },
        'snapshot opened',
      );
      return { snapshot: this.#show(id), memory: opened.value, disk: disk.value };
    }
    await disks.delete(diskId);
    throw outcomes.find((outcome) => outcome.status === 'rejected')!.reason;
  }

  async #commit(id: SnapshotId, signal: AbortSignal): Promise<void> {
    const { staged, committed, memory, preparer, check, locks, log, clock } = this.#parts;
    const record = staged.find(id);
    if (!record) return;
    const { parentId, generation, sandboxId } = record;
    const type = generation === 0 ? 'full' : 'diff';
    setAttributes({
      'wrenn.sandbox.id': sandboxId,
      'wrenn.snapshot.generation': generation,
      'wrenn.snapshot.type': type,
    });
    const beganMs = clock.now().getTime();
    try {
      const parent = parentId === null ? undefined : readable(parentId, committed.read(parentId));
      const prepared = await preparer.prepare(record, parent, signal);
      await locks.exclusive(snapshotKey(id), async () => {
        try {
          signal.throwIfAborted();
          await inSpan('publish', {}, () => committed.publish(prepared.path, id, this.#condemned.has(id)));
        } catch (error) {
          await preparer.discard(prepared);
          throw error;
        }
        await failpoint('store.snapshot.published');
        check.accept(prepared.manifest);
        memory.forget(id);
        await inSpan('remove staged', {}, () => staged.remove(id));
      });
      const { builds, memoryRuns } = prepared.manifest;
      const facts = { generation, runs: memoryRuns, memoryBytes: builds[0]!.memoryBytes };
      setAttributes({ 'wrenn.snapshot.runs': memoryRuns, 'wrenn.snapshot.memory_bytes': facts.memoryBytes });
      log.info({ snapshot: id, ...facts, ms: clock.now().getTime() - beganMs }, 'snapshot committed');
    } catch (error) {
      if (!signal.aborted) log.error({ err: error, snapshot: id }, 'snapshot not committed');
      throw error;
    }
    await failpoint('store.snapshot.committed');
    // Not awaited: a collection may itself wait for this commit to end.
    inSpan('collect', {}, () => this.collect()).catch((error: unknown) =>
      log.error({ err: error }, 'deleted snapshots could not be removed'),
    );
  }

  // Whether it is gone.
  async #remove(id: SnapshotId): Promise<boolean> {
    const { staged, committed, memory, disks, locks, log } = this.#parts;
    await this.#commits.cancel(id);
    const image = await locks.exclusive(snapshotKey(id), async () => {
      if (this.#isNeeded(id, await disks.list())) {
        if (staged.find(id)) this.#commits.add(id);
        return undefined;
      }
      const parsed = committed.read(id);
      const facts = staged.find(id) ?? (parsed && 'manifest' in parsed ? parsed.manifest : undefined);
      await committed.remove(id);
      await failpoint('store.snapshot.half-deleted');
      await staged.remove(id);
      memory.forget(id);
      this.#condemned.delete(id);
      log.info({ snapshot: id }, 'snapshot deleted');
      return facts?.image ?? '';
    });
    if (image !== undefined) await this.#parts.collectImages(image);
    return image !== undefined;
  }

  // By a disk that was made over it or given files of it, or by a staged snapshot that will be compared with it.
  #isNeeded(id: SnapshotId, disks: readonly StoredDisk[]): boolean {
    const isBelow = (disk: StoredDisk) => disk.image === '' || disk.parentId === id || disk.layers.includes(id);
    return disks.some(isBelow) || this.#parts.staged.begun().some((record) => record.parentId === id);
  }

  #mark(id: SnapshotId): void {
    const { staged, committed, log } = this.#parts;
    try {
      if (staged.find(id)) staged.condemn(id);
      else committed.condemn(id);
    } catch (error) {
      log.error({ err: error, snapshot: id }, 'a restart would show this deleted snapshot again');
    }
  }

  #requireKnown(id: SnapshotId): void {
    if (!this.#exists(id) || this.#condemned.has(id)) throw noSnapshot(id);
  }

  #exists(id: SnapshotId): boolean {
    const { staged, committed } = this.#parts;
    return staged.find(id) !== undefined || committed.read(id) !== undefined;
  }

  #ids(): SnapshotId[] {
    const { staged, committed } = this.#parts;
    return [...new Set([...staged.list().map(({ id }) => id), ...committed.ids()])];
  }

  // Itself and its ancestors as far as they are staged.
  #stagedChain(id: SnapshotId): SnapshotId[] {
    const chain: SnapshotId[] = [];
    for (
      let at = this.#parts.staged.find(id);
      at;
      at = at.parentId === null ? undefined : this.#parts.staged.find(at.parentId)
    ) {
      chain.push(at.id);
    }
    return chain;
  }

  // Keeps it and its staged ancestors from being committed or removed meanwhile.
  #holdingChain<T>(id: SnapshotId, work: () => Promise<T>): Promise<T> {
    return this.#parts.locks.shared(snapshotKey(id), () => {
      const parentId = this.#parts.staged.find(id)?.parentId ?? null;
      return parentId === null ? work() : this.#holdingChain(parentId, work);
    });
  }

  #show(id: SnapshotId): StoredSnapshot {
    const { staged, committed } = this.#parts;
    const record = staged.find(id);
    if (record) {
      const failure = this.#commits.failureOf(id);
      const problem = failure ? `not durable: ${messageOf(failure)}` : '';
      return { ...record, isDurable: false, builds: [], ownBytes: staged.realBytes(id), problem };
    }
    const parsed = committed.read(id);
    if (!parsed) throw noSnapshot(id);
    const ownBytes = committed.ownBytes(id);
    if ('problem' in parsed) return { ...unreadable, id, ownBytes, problem: parsed.problem };
    const { manifest } = parsed;
    const builds = manifest.builds.map((build) => ({ ...build, diskBytes: committed.layerBytes(id, build.id) }));
    return { ...manifest, isDurable: true, builds, ownBytes, problem: '' };
  }
}

const unreadable = {
  sandboxId: '',
  template: '',
  parentId: null,
  generation: 0,
  machine: undefined,
  image: '',
  imageDigest: '',
  diskBytes: 0,
  isDurable: true,
  createdAt: new Date(0).toISOString(),
  builds: [],
};

// Stops waiting when the caller leaves; what it waited for goes on.
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const leave = () => reject(signal.reason);
  signal.addEventListener('abort', leave);
  if (signal.aborted) leave();
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
