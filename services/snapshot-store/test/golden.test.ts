// The formats as the Rust side writes them: both sides read and write the same bytes.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { decodeHeader, encodeHeader } from '../src/domain/header-format.ts';
import { type MemoryMap, zeroBuild } from '../src/domain/memory-map.ts';
import { decodeSums, decodeWorkingSet, encodeSums, encodeWorkingSet } from '../src/domain/sums-format.ts';
import { seededRandom } from './seeded-random.ts';

const directory = join(import.meta.dirname, 'golden');
const golden = (name: string) => readFileSync(join(directory, name));
const named = (prefix: string) => readdirSync(directory).filter((name) => name.startsWith(prefix));

interface ExpectedHeader {
  readonly generation: number;
  readonly memoryBytes: number;
  readonly builds: MemoryMap['builds'];
  readonly runs: readonly { first: number; blocks: number; build: number | null; offset: number }[];
}

const expected = JSON.parse(golden('expected.json').toString()) as Record<string, ExpectedHeader> & {
  readonly sums: number[];
  readonly workingset: number[];
};
const memoryBlocks = 16;

test.each(['header-1', 'header-2', 'header-3'])('%s is read as it was meant and written byte for byte', (name) => {
  const { runs, ...rest } = expected[name]!;
  const map = {
    ...rest,
    runs: runs.map(({ first, blocks, build, offset }) => ({ first, count: blocks, build: build ?? zeroBuild, offset })),
  };
  expect(decodeHeader(golden(name))).toEqual(map);
  expect(encodeHeader(map).equals(golden(name))).toBe(true);
});

test('sums and working set are read as they were meant and written byte for byte', () => {
  expect([...decodeSums(golden('sums'), expected.sums.length)]).toEqual(expected.sums);
  expect(encodeSums(Uint32Array.from(expected.sums)).equals(golden('sums'))).toBe(true);
  expect([...(decodeWorkingSet(golden('workingset'), memoryBlocks) ?? [])]).toEqual(expected.workingset);
  expect(encodeWorkingSet(expected.workingset).equals(golden('workingset'))).toBe(true);
});

test.each(named('broken-header-'))('%s is refused', (name) => {
  expect(() => decodeHeader(golden(name))).toThrow('the header is corrupt');
});

test.each(named('broken-sums-'))('%s is refused', (name) => {
  expect(() => decodeSums(golden(name), expected.sums.length)).toThrow('the checksums are corrupt');
});

test.each(named('broken-workingset-'))('%s is passed over', (name) => {
  expect(decodeWorkingSet(golden(name), memoryBlocks)).toBeUndefined();
});

test('a working set that names blocks beyond the memory is passed over', () => {
  expect(decodeWorkingSet(golden('workingset'), 15)).toBeUndefined();
});

test('every cut and every flipped bit of each format is noticed', () => {
  const read = {
    'header-3': (bytes: Buffer) => decodeHeader(bytes),
    sums: (bytes: Buffer) => decodeSums(bytes, expected.sums.length),
    workingset: (bytes: Buffer) => {
      if (!decodeWorkingSet(bytes, memoryBlocks)) throw new Error('passed over');
    },
  };
  for (const [name, decode] of Object.entries(read)) {
    const whole = golden(name);
    for (let length = 0; length < whole.length; length++) {
      expect(() => decode(whole.subarray(0, length)), `${name} cut at ${length}`).toThrow();
    }
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const flipped = Buffer.from(whole);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decode(flipped), `${name} bit ${bit}`).toThrow();
    }
  }
});

test('no bytes whatever make a reader do anything but refuse', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const random = seededRandom(seed);
    const bytes = Buffer.from(golden(random(2) === 0 ? 'header-2' : 'header-3'));
    for (let change = 0; change <= random(8); change++) bytes[random(bytes.length)] = random(256);
    const cut = bytes.subarray(0, random(4) === 0 ? random(bytes.length + 1) : bytes.length);
    try {
      decodeHeader(cut);
    } catch (error) {
      expect((error as Error).message, `seed ${seed}`).toContain('the header is corrupt');
    }
  }
});
