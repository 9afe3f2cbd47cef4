// Chains of generations: 0 to 10 and then 0 again, with something of its own in each layer of memory and disk.
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { runProgram } from '@wrenn/kit/run-program';
import { expect, test } from 'vitest';

import {
  blockOf,
  boot,
  durable,
  memoryBlocks,
  openSnapshot,
  readMemory,
  stage,
  writeDisk,
} from './snapshot-fixture.ts';
import { seededRandom } from './seeded-random.ts';
import { MiB, type StoreFixture, type WorkDir, given, startStore, workDir } from './store-fixture.ts';

const diskSlots = 96; // Of 64 KiB from 1 MiB on.
const slotAt = (slot: number) => MiB + slot * 65_536;

const basePattern = 0x5a;

// An image with data everywhere, so that what a layer zeroes must not show through again.
async function importFullImage(store: StoreFixture, dir: WorkDir): Promise<void> {
  const path = join(dir.path, 'full.raw');
  await writeFile(path, Buffer.alloc(8 * MiB, basePattern));
  await store.import('debian', path);
}

// What the guest's memory and disk should be, changed at random.
class Model {
  readonly memory: string[] = Array.from({ length: memoryBlocks }, () => '');
  readonly disk: number[] = Array.from({ length: diskSlots }, () => basePattern);
  readonly #random: (below: number) => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  // Returns the blocks touched, some of them with what they had before.
  touchMemory(round: number): Record<number, string> {
    const touched: Record<number, string> = {};
    for (let change = 0; change < 24; change++) {
      const block = this.#random(memoryBlocks);
      const text = ['', this.memory[block]!, `round ${round} block ${block}`][this.#random(3)]!;
      touched[block] = text;
      this.memory[block] = text;
    }
    return touched;
  }

  async touchDisk(path: string, round: number): Promise<void> {
    const commands: string[] = [];
    for (let change = 0; change < 6; change++) {
      const slot = this.#random(diskSlots);
      const pattern = this.#random(4) === 0 ? 0 : 1 + ((round * 7 + change) % 250);
      const write =
        pattern === 0 ? `write -q -z -u ${slotAt(slot)} 65536` : `write -q -P ${pattern} ${slotAt(slot)} 65536`;
      commands.push('-c', write);
      this.disk[slot] = pattern;
    }
    await runProgram('qemu-io', [...commands, path]);
  }

  async expect(opened: Awaited<ReturnType<typeof openSnapshot>>, what: string): Promise<void> {
    const expected = Buffer.concat(this.memory.map(blockOf));
    expect((await readMemory(opened)).equals(expected), `${what}: memory`).toBe(true);
    const reads = this.disk.flatMap((pattern, slot) => ['-c', `read -q -P ${pattern} ${slotAt(slot)} 65536`]);
    const said = await runProgram('qemu-io', ['-r', ...reads, given(opened.disk).path]);
    expect(said, `${what}: disk`).toBe('');
  }
}

test(
  'generations count to 10 and begin again, and nothing of memory or disk is lost on the way',
  { timeout: 240_000 },
  async () => {
    await using dir = await workDir();
    await using store = await startStore(dir);
    await importFullImage(store, dir);
    const { sandboxId, diskPath } = await boot(store, dir);
    const model = new Model(4);
    await model.touchDisk(diskPath, 0);
    let last = await stage(store, dir, { sandboxId, touched: model.touchMemory(0) });
    const generations = [last.generation];
    for (let round = 1; round <= 24; round++) {
      // Every third resume comes before the commit has ended.
      if (round % 3 !== 0) await durable(store, last.id);
      const opened = await openSnapshot(store, last.id, sandboxId);
      await model.expect(opened, `round ${round}`);
      await model.touchDisk(given(opened.disk).path, round);
      last = await stage(store, dir, { sandboxId, parentId: last.id, touched: model.touchMemory(round) });
      generations.push(last.generation);
    }
    const upToTen = Array.from({ length: 11 }, (_none, generation) => generation);
    expect(generations).toEqual([...upToTen, ...upToTen, 0, 1, 2]);
    expect((await durable(store, last.id)).builds).toHaveLength(3);
    await model.expect(await openSnapshot(store, last.id), 'the last');
  },
);

test(
  'a collapse stands on nothing but the image, and leaves the generations before it whole',
  { timeout: 120_000 },
  async () => {
    await using dir = await workDir();
    await using store = await startStore(dir);
    const { sandboxId, diskPath } = await boot(store, dir);
    await writeDisk(diskPath, 0x11, 2 * MiB);
    let last = await stage(store, dir, { sandboxId, touched: { 0: 'zeroth', 3: 'gone' } });
    for (let round = 1; round <= 10; round++) {
      const opened = await openSnapshot(store, last.id, sandboxId);
      await writeDisk(given(opened.disk).path, 0x20 + round, 3 * MiB + round * 65_536);
      last = await stage(store, dir, {
        sandboxId,
        parentId: last.id,
        touched: { [round + 9]: `round ${round}`, 3: '' },
      });
    }
    const tenth = await durable(store, last.id);
    expect(tenth.builds).toHaveLength(11);
    const opened = await openSnapshot(store, last.id, sandboxId);
    await writeDisk(given(opened.disk).path, 0x55, 5 * MiB);
    const full = await stage(store, dir, { sandboxId, parentId: last.id, touched: { 200: 'new' } });
    const committed = await durable(store, full.id);
    expect(committed).toMatchObject({ generation: 0, parentId: tenth.id, builds: [{ id: full.id }] });
    const home = join(dir.data, 'snapshots', full.id);
    const names = (await readdir(home)).filter((name) => name.startsWith('disk') || name.startsWith('memfile')).sort();
    expect(names).toEqual(
      [`disk.${full.id}`, 'memfile.header', `memfile.${full.id}`, `memfile.${full.id}.sums`].sort(),
    );
    expect((await stat(join(home, `memfile.${full.id}`))).size).toBe(12 * 4096);
    const layer = JSON.parse(
      await runProgram('qemu-img', ['info', '--output=json', join(home, `disk.${full.id}`)]),
    ) as object;
    expect(layer).toMatchObject({ 'backing-filename': expect.stringMatching(/^\/.*rootfs\.ext4$/) });
    // The content of the disk is that of the long chain, wherever one looks.
    const collapsed = given((await openSnapshot(store, full.id)).disk).path;
    const chain = given((await openSnapshot(store, last.id)).disk).path;
    await writeDisk(chain, 0x55, 5 * MiB);
    await runProgram('qemu-img', ['compare', '-q', collapsed, chain]);
    const { problems } = await store.client.verifySnapshot({ snapshotId: tenth.id }, inMs(30_000));
    expect(problems).toEqual([]);
  },
);
