import { spawn } from 'node:child_process';
import { mkdir, readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { expect, test } from 'vitest';

import { writeDurably, writeDurablySync } from './durable-file.ts';
import { tempDir } from './testkit/temp-dir.ts';

const both = [
  ['a writer that waits', writeDurably],
  ['one that does not', async (...write: Parameters<typeof writeDurablySync>) => writeDurablySync(...write)],
] as const;

test.each(both)('%s replaces the content whole and leaves nothing beside it', async (_which, write) => {
  await using dir = await tempDir();
  const path = join(dir.path, 'f');
  await write(path, 'old and long');
  await write(path, 'new', 0o600);
  expect(await readFile(path, 'utf8')).toBe('new');
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(dir.path)).toEqual(['f']);
});

test.each(both)('%s leaves no temporary file when it fails', async (_which, write) => {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'd', 'inside'), { recursive: true });
  await expect(write(join(dir.path, 'd'), 'x')).rejects.toThrow();
  expect(await readdir(dir.path)).toEqual(['d']);
});

test('a writer killed at any instant leaves one whole version', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'f');
  const size = 512 * 1024;
  await writeDurably(path, '0'.repeat(size));
  const module = new URL('./durable-file.ts', import.meta.url).href;
  const script = `import { writeDurably } from ${JSON.stringify(module)};
    for (let n = 0; ; n++) { console.log(n); await writeDurably(${JSON.stringify(path)}, String(n % 10).repeat(${size})); }`;
  let killedMidWrite = 0;
  for (let round = 0; round < 12; round++) {
    const writer = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const dead = new Promise((resolve) => writer.once('exit', resolve));
    for await (const line of createInterface(writer.stdout)) {
      // The kill lands in the write that this line announced, later in it each round.
      if (Number(line) === 2 + (round % 3)) {
        const spunUntil = performance.now() + round / 4;
        while (performance.now() < spunUntil);
        writer.kill('SIGKILL');
      }
    }
    await dead;
    const content = await readFile(path, 'utf8');
    expect(content).toHaveLength(size);
    expect(content).toBe(content.charAt(0).repeat(size));
    if ((await readdir(dir.path)).length > 1 + killedMidWrite) killedMidWrite++;
  }
  expect(killedMidWrite).toBeGreaterThan(0);
});
