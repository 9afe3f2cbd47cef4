import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { newSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { MemoryDump } from './memory-dump.ts';
import { vmPaths } from './vm-paths.ts';

// A program in the pager's place: a shell script tells what it does.
async function readied(script: string) {
  const dir = await tempDir();
  const at = (name: string) => join(dir.path, name);
  const paths = {
    ...vmPaths({ vmsDir: dir.path, ramDir: dir.path }, newSandboxId()),
    ...{ ram: at('ram'), ramBase: at('ram-base'), ramAddress: at('ram-address') },
  };
  await writeFile(paths.ramAddress, '7f0000000000\n');
  await writeFile(paths.ramBase, Buffer.alloc(8192));
  await writeFile(at('dumper'), `#!/bin/sh\ncd ${dir.path}\necho "$@" > args\n${script}\n`, { mode: 0o755 });
  const dump = await MemoryDump.ready(at('dumper'), { pid: 4242, startTicks: 1 }, paths);
  const said = (name: string) => eventually(name, async () => (await readFile(at(name), 'utf8')).trim());
  return { dump, at, said, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
}

test('a dump begins at the word, is told where, and is done when it says so', async () => {
  await using it = await readied('read -r word && echo begun > begun; echo \'{"pages":3}\'');
  const where = `--pid 4242 --address 7f0000000000 --bytes 8192 --out ${it.at('ram')}`;
  expect(await it.said('args')).toBe(`dump ${where}`);
  await it.dump.write();
  expect(await it.said('begun')).toBe('begun');
});

test('a dump that is called off ends without having begun', async () => {
  await using it = await readied('read -r word && echo begun > end || echo "called off" > end');
  it.dump[Symbol.dispose]();
  expect(await it.said('end')).toBe('called off');
});

test.each([
  ['says why', 'read -r word; echo "no room" >&2; exit 1', /\(1\): no room/],
  ['ends without a word', 'read -r word', /\(0\)/],
  ['is gone before it is asked', 'echo gone >&2; exit 1', /\(1\): gone/],
  ['is killed', 'read -r word; kill -9 $$', /SIGKILL/],
])('a dump that %s fails, and so does a freeze that needs it', async (_what, script, why) => {
  await using it = await readied(script);
  await expect(it.dump.write()).rejects.toThrow(why);
});
