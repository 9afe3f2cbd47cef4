import { readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';

import { newSandboxId } from '@wrenn/kit/ids';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { ConsoleFiles } from './console-files.ts';

const limits = { pieceBytes: 100, pieceCount: 3, allBytes: 500, keptMs: 60_000 };

async function all(files: ConsoleFiles, id: ReturnType<typeof newSandboxId>, after = 0) {
  let text = '';
  let offset = after;
  for (;;) {
    const { bytes, nextOffset } = await files.read(id, offset);
    if (bytes.length === 0) return { text, offset };
    text += Buffer.from(bytes).toString();
    offset = nextOffset;
  }
}

test('what was written is read from any offset on, also by the next life', async () => {
  await using dir = await tempDir();
  const id = newSandboxId();
  const files = new ConsoleFiles(dir.path, limits);
  expect(await all(files, id)).toEqual({ text: '', offset: 0 });
  await files.append(id, Buffer.from('one '));
  await files.append(id, Buffer.from('two '));
  expect(await all(files, id)).toEqual({ text: 'one two ', offset: 8 });
  const next = new ConsoleFiles(dir.path, limits);
  await next.append(id, Buffer.from('three'));
  expect(await all(next, id, 4)).toEqual({ text: 'two three', offset: 13 });
  expect(await all(next, id, 13)).toEqual({ text: '', offset: 13 });
});

test('the oldest pieces go; offsets go on, and a reader that was there goes on with the oldest', async () => {
  await using dir = await tempDir();
  const id = newSandboxId();
  const files = new ConsoleFiles(dir.path, limits);
  for (let n = 0; n < 10; n++) await files.append(id, Buffer.alloc(100, String(n)));
  expect(readdirSync(join(dir.path, id))).toHaveLength(3);
  const { text, offset } = await all(files, id, 50);
  expect([text.replaceAll(/(.)\1*/g, '$1'), offset]).toEqual(['789', 1000]);
  expect((await all(files, id, 5000)).text).toHaveLength(300);
});

test('pruning takes what is too old, then the oldest of what is too much, and nothing that is open', async () => {
  await using dir = await tempDir();
  const files = new ConsoleFiles(dir.path, limits);
  const ids = Array.from({ length: 5 }, newSandboxId);
  for (const [n, id] of ids.entries()) {
    await files.append(id, Buffer.alloc(200));
    const writtenS = Date.now() / 1000 - (n === 0 ? 100 : 10 - n);
    utimesSync(join(dir.path, id, '0'), writtenS, writtenS);
  }
  await files.prune((id) => id === ids[1]);
  expect(new Set(readdirSync(dir.path))).toEqual(new Set([ids[1], ids[3], ids[4]]));
});
