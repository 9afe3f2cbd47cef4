import { newSnapshotId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { decodeHeader, encodeHeader } from './header-format.ts';
import {
  type MemoryMap,
  RunList,
  blockBytes,
  flatMap,
  overlay,
  runIndexOf,
  runsWithin,
  zeroBuild,
} from './memory-map.ts';
import { seededRandom } from '../../test/seeded-random.ts';

const [full, second, third] = [newSnapshotId(), newSnapshotId(), newSnapshotId()];

// Where a block lies, by looking at every run: `build:offset` or zero.
function placesOf({ builds, runs }: MemoryMap): string[] {
  const places: string[] = [];
  for (const run of runs) {
    for (let block = 0; block < run.count; block++) {
      const isZero = run.build === zeroBuild;
      places[run.first + block] = isZero ? 'zero' : `${builds[run.build]!.id}:${run.offset + block * blockBytes}`;
    }
  }
  return places;
}

test('a generation over another finds each block where it was last stored, whatever was patched', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = seededRandom(seed);
    const blocks = 1 + random(60);
    let map: MemoryMap | undefined;
    let expected: string[] = Array.from({ length: blocks }, () => 'zero');
    for (let generation = 0; generation < 6; generation++) {
      const id = newSnapshotId();
      const patches = new RunList();
      let stored = 0;
      const next = [...expected];
      for (let block = 0; block < blocks; block++) {
        const choice = random(4);
        if (choice === 0) {
          patches.add(block, 1, zeroBuild, 0);
          next[block] = 'zero';
        } else if (choice === 1) {
          patches.add(block, 1, 0, stored);
          next[block] = `${id}:${stored}`;
          stored += blockBytes;
        }
      }
      const before: string[] | undefined = map && placesOf(map);
      const child: MemoryMap = overlay(map, blocks * blockBytes, { id, storedBytes: stored, generation }, patches.runs);
      expect(placesOf(child), `seed ${seed} generation ${generation}`).toEqual(next);
      expect(map && placesOf(map), 'the parent is as before').toEqual(before);
      expect(decodeHeader(encodeHeader(child)), `seed ${seed}`).toEqual(child);
      const used = new Set(next.filter((place) => place !== 'zero').map((place) => place.split(':')[0]));
      expect(
        child.builds.slice(1).map((build) => build.id),
        'no build that nothing needs',
      ).toEqual((map?.builds ?? []).map((build) => build.id).filter((build) => used.has(build)));
      map = child;
      expected = next;
    }
  }
});

test('a block is found by one search as by looking at every run', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = seededRandom(seed);
    const list = new RunList();
    let offset = 0;
    for (let first = 0; first < 200;) {
      const count = 1 + random(9);
      const isZero = random(3) === 0;
      list.add(first, count, isZero ? zeroBuild : 0, isZero ? 0 : offset);
      if (!isZero) offset += (count + random(2)) * blockBytes;
      first += count;
    }
    const { runs } = list;
    for (let block = 0; block < 200; block++) {
      const run = runs[runIndexOf(runs, block)]!;
      expect(block >= run.first && block < run.first + run.count, `seed ${seed} block ${block}`).toBe(true);
    }
    const [first, count] = [random(100), 1 + random(99)];
    const parts = [...runsWithin(runs, first, count)];
    expect(parts.reduce((sum, part) => sum + part.count, 0)).toBe(count);
    for (const part of parts) {
      const whole = runs[runIndexOf(runs, part.first)]!;
      const within = whole.build === zeroBuild ? 0 : whole.offset + (part.first - whole.first) * blockBytes;
      expect(part).toMatchObject({ build: whole.build, offset: within });
    }
  }
});

test('a block that was zeroed is zero in the child, and not what its parent had', () => {
  const parent = flatMap(full, 4 * blockBytes);
  const own = { id: second, storedBytes: 0, generation: 1 };
  const child = overlay(parent, 4 * blockBytes, own, [{ first: 1, count: 2, build: zeroBuild, offset: 0 }]);
  expect(placesOf(child)).toEqual([`${full}:0`, 'zero', 'zero', `${full}:${3 * blockBytes}`]);
});

test('a build that every block was taken from since is not needed any more', () => {
  const parent = flatMap(full, 2 * blockBytes);
  const all = [{ first: 0, count: 2, build: 0, offset: 0 }];
  const child = overlay(parent, 2 * blockBytes, { id: second, storedBytes: 2 * blockBytes, generation: 1 }, all);
  expect(child.builds.map((build) => build.id)).toEqual([second]);
  const one = [{ first: 0, count: 1, build: 0, offset: 0 }];
  const grandchild = overlay(child, 2 * blockBytes, { id: third, storedBytes: blockBytes, generation: 2 }, one);
  expect(grandchild.builds.map((build) => build.id)).toEqual([third, second]);
});
