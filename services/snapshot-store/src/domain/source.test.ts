import { expect, test } from 'vitest';

import { type SourceFingerprint, isSameSource, isSettled } from './source.ts';

const fingerprint: SourceFingerprint = {
  device: '64768',
  inode: '12',
  sizeBytes: '1048576',
  mtimeNs: '1000000000',
  ctimeNs: '5000000000',
};

test('a source is the same only if nothing of its fingerprint differs', () => {
  expect(isSameSource(fingerprint, { ...fingerprint })).toBe(true);
  expect(isSameSource(null, fingerprint)).toBe(false);
  for (const field of Object.keys(fingerprint)) {
    expect(isSameSource({ ...fingerprint, [field]: '7' }, fingerprint), field).toBe(false);
  }
});

test('a fingerprint proves nothing until its ctime is a second past', () => {
  expect(isSettled(fingerprint, 5500)).toBe(false);
  expect(isSettled(fingerprint, 6000)).toBe(false);
  expect(isSettled(fingerprint, 6001)).toBe(true);
  expect(isSettled(fingerprint, 0)).toBe(false);
});
