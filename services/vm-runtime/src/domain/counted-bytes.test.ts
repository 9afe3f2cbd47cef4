import { expect, test } from 'vitest';

import { CountedBytes } from './counted-bytes.ts';
import type { FileEntry, FilePlace, GuestBytes } from './guest-files.ts';

const place: FilePlace = { path: '/f', user: '' };
const { signal } = new AbortController();

function heldBytes() {
  const written = Promise.withResolvers<FileEntry>();
  const inner: GuestBytes = {
    async *read() {
      yield { data: Buffer.from('1') };
      yield { data: Buffer.from('2') };
    },
    write: () => written.promise,
  };
  return { bytes: new CountedBytes(inner), written };
}

const write = (bytes: CountedBytes) => bytes.write(place, 0, (async function* () {})(), signal);

test('what has nothing under way is drained at once', async () => {
  expect(await heldBytes().bytes.drain(60_000)).toBe(0);
});

test('a drain ends with the last transfer, also one that fails or is left', async () => {
  const { bytes, written } = heldBytes();
  const failing = write(bytes);
  const reading = bytes.read(place, { offset: 0n, length: 0n }, signal);
  await reading.next();
  const drained = bytes.drain(60_000);
  written.reject(new Error('cut'));
  await expect(failing).rejects.toThrow('cut');
  expect(await bytes.drain(1)).toBe(1);
  await reading.return();
  expect(await drained).toBe(0);
});

test('a drain waits no longer than it may, and says what is left', async () => {
  const { bytes, written } = heldBytes();
  const [one, other] = [write(bytes), write(bytes)];
  expect(await bytes.drain(5)).toBe(2);
  written.resolve({} as FileEntry);
  await Promise.all([one, other]);
  expect(await bytes.drain(60_000)).toBe(0);
});
