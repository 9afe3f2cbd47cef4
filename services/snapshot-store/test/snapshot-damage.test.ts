// Whatever happens to a file of a snapshot: it is refused or listed, and the rest of the store works.
import { copyFile, readFile, readdir, rename, rm, truncate, utimes, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { thorough } from '@wrenn/kit/testkit/dice';
import { expect, test } from 'vitest';

import { encodeWorkingSet } from '../src/domain/sums-format.ts';
import { seededRandom } from './seeded-random.ts';
import { boot, bytesOf, durable, memoryOf, openSnapshot, readMemory, stage, writeDisk } from './snapshot-fixture.ts';
import { MiB, type StoreFixture, type WorkDir, given, startStore, workDir } from './store-fixture.ts';

interface Pair {
  readonly full: string;
  readonly diff: string;
}

const fullMemory = { 0: 'a', 1: 'b', 7: 'secret' };
const diffMemory = { 0: 'A', 1: 'b', 8: 'n' };

// A Full and a Diff on it, both committed, each with a working set. The mark is in each file of the Diff.
async function twoGenerations(store: StoreFixture, dir: WorkDir, mark = ''): Promise<Pair> {
  const { sandboxId, diskPath } = await boot(store, dir);
  await writeDisk(diskPath, 0x11, 2 * MiB);
  const full = await stage(store, dir, { sandboxId, touched: fullMemory, workingSet: encodeWorkingSet([7, 1]) });
  await durable(store, full.id);
  const opened = await openSnapshot(store, full.id, sandboxId);
  await writeDisk(given(opened.disk).path, 0x22 + mark.length, 3 * MiB);
  const touched = { 0: 'A', 7: '', 8: 'n', ...(mark && { 40: mark }) };
  const workingSet = encodeWorkingSet([8, 0]);
  const diff = await stage(store, dir, { sandboxId, parentId: full.id, touched, workingSet, vmstate: `newer ${mark}` });
  await durable(store, diff.id);
  return { full: full.id, diff: diff.id };
}

const problemsOf = async (store: StoreFixture, snapshotId: string) =>
  (await store.client.verifySnapshot({ snapshotId }, inMs(20_000))).problems;

async function expectSound(store: StoreFixture, id: string, memory: Readonly<Record<number, string>>): Promise<void> {
  const opened = await openSnapshot(store, id);
  expect((await readMemory(opened)).equals(bytesOf(memoryOf(memory)))).toBe(true);
  await store.client.deleteDisk({ diskId: given(opened.disk).id }, inMs(5000));
}

// A damaged copy in the file's place, as another disk or another program would leave it; undone afterwards.
async function withDamaged(path: string, damage: (copy: string) => Promise<void>, look: () => Promise<void>) {
  const kept = `${path}.kept`;
  await rename(path, kept);
  await copyFile(kept, path);
  await damage(path);
  await look();
  await rm(path, { force: true });
  await rename(kept, path);
}

async function flipBit(path: string, bit: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[bit >> 3]! ^= 1 << (bit & 7);
  await writeFile(path, bytes);
}

test(
  'each file cut, lengthened, lost or with any bit flipped is refused by name and generation',
  { timeout: thorough(240_000) },
  async () => {
    await using dir = await workDir();
    await using store = await startStore(dir);
    const { full, diff } = await twoGenerations(store, dir);
    const home = join(dir.data, 'snapshots', diff);
    const random = seededRandom(20_261_124);
    const names = (await readdir(home)).sort();
    expect(names).toHaveLength(10);
    for (const name of names) {
      const { size } = await stat(join(home, name));
      const damages: [string, (copy: string) => Promise<void>][] = [
        ['cut by a byte', (copy) => truncate(copy, size - 1)],
        ['emptied', (copy) => truncate(copy, 0)],
        ['lengthened', (copy) => truncate(copy, size + 4096)],
        ['lost', (copy) => rm(copy)],
      ];
      for (let flip = 0; flip < thorough(12); flip++) {
        const bit = random(size * 8);
        damages.push([`bit ${bit} flipped`, (copy) => flipBit(copy, bit)]);
      }
      for (const [what, damage] of damages) {
        await withDamaged(join(home, name), damage, async () => {
          const problems = await problemsOf(store, diff);
          expect(problems.length, `${name} ${what}`).toBeGreaterThan(0);
          if (name === 'workingset') {
            expect(await openSnapshot(store, diff), 'a hint is passed over').toMatchObject({ workingSetPath: '' });
            return;
          }
          const generation = name.includes(full) ? '0' : '1';
          const meta = name === 'manifest.json' ? { file: name } : { file: name, generation, snapshot: diff };
          await expect(openSnapshot(store, diff), `${name} ${what}`).rejects.toMatchObject({
            reason: 'SNAPSHOT_CORRUPT',
            meta,
          });
        });
      }
    }
    await expectSound(store, diff, diffMemory);
    await expectSound(store, full, fullMemory);
  },
);

test('a bit flipped in place is found although size and times are as before', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { full, diff } = await twoGenerations(store, dir);
  await expectSound(store, diff, diffMemory);
  const path = join(dir.data, 'snapshots', full, `memfile.${full}`);
  const { atime, mtime } = await stat(path);
  await flipBit(path, 5000 * 8);
  await utimes(path, atime, mtime);
  // It is one file under two names.
  for (const id of [full, diff]) {
    await expect(openSnapshot(store, id)).rejects.toMatchObject({
      reason: 'SNAPSHOT_CORRUPT',
      meta: { snapshot: id, file: `memfile.${full}`, generation: '0' },
    });
  }
  await flipBit(path, 5000 * 8);
  await expectSound(store, diff, diffMemory);
});

test('files and manifests swapped between two snapshots are refused', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const [one, two] = [await twoGenerations(store, dir), await twoGenerations(store, dir, 'two')];
  const home = (id: string) => join(dir.data, 'snapshots', id);
  const pairs = [
    ['manifest.json', 'manifest.json'],
    ['vmstate', 'vmstate'],
    ['memfile.header', 'memfile.header'],
    [`memfile.${one.diff}`, `memfile.${two.diff}`],
    [`disk.${one.diff}`, `disk.${two.diff}`],
  ] as const;
  for (const [a, b] of pairs) {
    const [here, there] = [join(home(one.diff), a), join(home(two.diff), b)];
    const swap = async () => {
      await rename(here, `${here}.x`);
      await rename(there, here);
      await rename(`${here}.x`, there);
    };
    await swap();
    for (const id of [one.diff, two.diff]) {
      expect(await problemsOf(store, id), `${a} of ${id}`).not.toEqual([]);
      await expect(openSnapshot(store, id), `${a} of ${id}`).rejects.toMatchObject({ reason: 'SNAPSHOT_CORRUPT' });
    }
    await expectSound(store, one.full, fullMemory);
    await swap();
  }
  await expectSound(store, one.diff, diffMemory);
  await expectSound(store, two.diff, { ...diffMemory, 40: 'two' });
});

test('one generation in the place of another of the same chain is refused', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { full, diff } = await twoGenerations(store, dir);
  const home = (id: string) => join(dir.data, 'snapshots', id);
  for (const name of ['manifest.json', 'memfile.header', 'vmstate']) {
    await withDamaged(
      join(home(diff), name),
      (copy) => copyFile(join(home(full), name), copy),
      async () => {
        await expect(openSnapshot(store, diff), name).rejects.toMatchObject({
          reason: 'SNAPSHOT_CORRUPT',
          meta: { file: name },
        });
      },
    );
  }
});

test('a damaged snapshot is shown with its problem, can be deleted, and starts do not fail on it', async () => {
  await using dir = await workDir();
  let pair: Pair;
  {
    await using store = await startStore(dir);
    pair = await twoGenerations(store, dir);
  }
  const manifest = join(dir.data, 'snapshots', pair.full, 'manifest.json');
  await rm(manifest);
  await writeFile(manifest, '{"format":"wrenn.snapshot/1"');
  await using store = await startStore(dir);
  const { snapshots } = await store.client.listSnapshots({}, inMs(5000));
  expect(snapshots.map(({ id, problem }) => [id, problem])).toEqual([
    [pair.full, expect.stringContaining('no JSON')],
    [pair.diff, ''],
  ]);
  await expectSound(store, pair.diff, diffMemory);
  await expect(store.client.deleteImage({ name: 'debian' }, inMs(5000))).rejects.toMatchObject({
    reason: 'IMAGE_IN_USE',
  });
  await store.client.deleteSnapshot({ snapshotId: pair.full }, inMs(5000));
  await expectSound(store, pair.diff, diffMemory);
});

test('repair takes sound files from a snapshot that shares them, and says what it cannot mend', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { full, diff } = await twoGenerations(store, dir);
  const home = join(dir.data, 'snapshots', diff);
  const shared = [`memfile.${full}`, `memfile.${full}.sums`, `disk.${full}`];
  for (const name of shared) await rm(join(home, name));
  // Another inode, and broken.
  await copyFile(join(dir.data, 'snapshots', full, `disk.${full}`), join(home, `disk.${full}`));
  await flipBit(join(home, `disk.${full}`), 9999);
  const own = join(home, `memfile.${diff}`);
  const kept = await readFile(own);
  await flipBit(own, 80);
  const outcome = await store.client.repairSnapshot({ snapshotId: diff }, inMs(20_000));
  expect([...outcome.repaired].sort()).toEqual([...shared].sort());
  expect(outcome.problems).toEqual([`memfile.${diff} of generation 1 is damaged in block 0`]);
  await writeFile(own, kept);
  expect(await store.client.repairSnapshot({ snapshotId: diff }, inMs(20_000))).toMatchObject({
    repaired: [],
    problems: [],
  });
  await expectSound(store, diff, diffMemory);
  expect((await stat(join(home, `memfile.${full}`))).ino).toBe(
    (await stat(join(dir.data, 'snapshots', full, `memfile.${full}`))).ino,
  );
});

test('verification reads every byte, the image below the disk included', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { full, diff } = await twoGenerations(store, dir);
  expect(await problemsOf(store, diff)).toEqual([]);
  const { images } = await store.client.listImages({}, inMs(5000));
  const { digest = '' } = images[0] ?? {};
  const rootfs = join(dir.data, 'images', 'debian', digest.slice('sha256:'.length), 'rootfs.ext4');
  await flipBit(rootfs, 12_345);
  expect(await problemsOf(store, full)).toEqual([expect.stringContaining(digest)]);
});

test(
  'a child never takes over what is damaged in its parent when the chain collapses',
  { timeout: 120_000 },
  async () => {
    await using dir = await workDir();
    await using store = await startStore(dir);
    const { sandboxId } = await boot(store, dir);
    let last = await stage(store, dir, { sandboxId, touched: { 0: 'zeroth', 1: 'first' } });
    for (let round = 1; round <= 10; round++) {
      await openSnapshot(store, last.id, sandboxId);
      last = await stage(store, dir, { sandboxId, parentId: last.id, touched: { [round + 9]: `round ${round}` } });
    }
    const { builds } = await durable(store, last.id);
    await openSnapshot(store, last.id, sandboxId);
    const root = builds.at(-1)?.id ?? '';
    const memfile = join(dir.data, 'snapshots', last.id, `memfile.${root}`);
    await flipBit(memfile, 100);
    const collapse = await stage(store, dir, { sandboxId, parentId: last.id, touched: {} });
    await expect(durable(store, collapse.id)).rejects.toMatchObject({
      reason: 'SNAPSHOT_CORRUPT',
      meta: { file: `memfile.${root}` },
    });
    const { snapshots } = await store.client.listSnapshots({}, inMs(5000));
    expect(snapshots.find(({ id }) => id === collapse.id)?.problem).toContain('damaged');
    await flipBit(memfile, 100);
    expect(await durable(store, collapse.id)).toMatchObject({ isDurable: true, generation: 0, problem: '' });
  },
);
