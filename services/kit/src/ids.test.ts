import { expect, test } from 'vitest';

import { isSandboxId, isSnapshotId, newSandboxId, newSnapshotId } from './ids.ts';

test('an id is cl- and 25 characters of base 36, whatever the random value', () => {
  expect(newSandboxId((size) => new Uint8Array(size))).toBe(`cl-${'0'.repeat(25)}`);
  expect(newSandboxId((size) => new Uint8Array(size).fill(255))).toBe('cl-f5lxx1zz5pnorynqglhzmsp33');
  expect(newSandboxId((size) => new Uint8Array(size).fill(1, size - 1))).toBe(`cl-${'0'.repeat(24)}1`);
});

test('ten thousand ids are all different and all valid', () => {
  const ids = Array.from({ length: 10_000 }, () => newSandboxId());
  expect(new Set(ids).size).toBe(10_000);
  expect(ids.every(isSandboxId)).toBe(true);
});

test.each([
  '',
  'cl-',
  `sb-${'0'.repeat(25)}`,
  `cl-${'0'.repeat(24)}`,
  `cl-${'0'.repeat(26)}`,
  `CL-${'0'.repeat(25)}`,
  `cl-${'A'.repeat(25)}`,
  `cl-${'0'.repeat(24)}_`,
  `cl-${'0'.repeat(25)}\n`,
])('%j is no sandbox id', (text) => {
  expect(isSandboxId(text)).toBe(false);
});

test('ids of sandboxes and snapshots are told apart', () => {
  expect(isSnapshotId(newSnapshotId())).toBe(true);
  expect(isSnapshotId(newSandboxId())).toBe(false);
  expect(isSandboxId(newSnapshotId())).toBe(false);
});
