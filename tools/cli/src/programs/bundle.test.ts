import { mkdir, rm, unlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { bundle } from './bundle.ts';
import { bundleOf, runnable, stateFileOf } from './programs.ts';

const source = 'services/echo/src/main.ts';
const bundled = bundleOf(source);

let dir: Awaited<ReturnType<typeof tempDir>>;
let root: string;

beforeEach(async () => {
  dir = await tempDir();
  root = dir.path;
  await write('services/echo/src/main.ts', `import { say } from './words.ts'; say(process.argv.slice(2));`);
  await write('services/echo/src/words.ts', `export function say(words: string[]): void { console.log(...words); }`);
});

afterEach(() => dir[Symbol.asyncDispose]());

// As long ago as what a checkout holds.
async function write(path: string, text: string): Promise<void> {
  const file = join(root, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text);
  await utimes(file, new Date(), new Date(Date.now() - 60_000));
}

function run(...args: string[]): Promise<string> {
  return runProgram('sh', ['-c', 'cd "$0" && exec "$@"', root, process.execPath, runnable(root, source), ...args]);
}

test('a program is run from its sources until it is bundled, and does the same then', async () => {
  expect(runnable(root, source)).toBe(source);
  expect(await run('one', 'two')).toBe('one two\n');
  await bundle(root, source);
  expect(runnable(root, source)).toBe(bundled);
  expect(await run('one', 'two')).toBe('one two\n');
});

test('a change of any of its files makes it run from its sources, until it is bundled anew', async () => {
  await bundle(root, source);
  await writeFile(join(root, 'services/echo/src/words.ts'), `export const say = () => console.log('changed');`);
  expect(runnable(root, source)).toBe(source);
  expect(await run()).toBe('changed\n');
  await write('services/echo/src/words.ts', `export const say = () => console.log('changed again');`);
  await bundle(root, source);
  expect(runnable(root, source)).toBe(bundled);
  expect(await run()).toBe('changed again\n');
});

test('a file that changes while it is bundled may have been read before, so it does not count as bundled', async () => {
  const soon = new Date(Date.now() + 60_000);
  await utimes(join(root, 'services/echo/src/words.ts'), soon, soon);
  await bundle(root, source);
  expect(runnable(root, source)).toBe(source);
});

test('so does a file that is gone, one of the bundle too, and a bundling that was cut off', async () => {
  await bundle(root, source);
  await writeFile(join(root, stateFileOf(source)), '{"serv');
  expect(runnable(root, source)).toBe(source);
  await bundle(root, source);
  expect(runnable(root, source)).toBe(bundled);
  await unlink(join(root, bundled));
  expect(runnable(root, source)).toBe(source);
  await bundle(root, source);
  expect(runnable(root, source)).toBe(bundled);
  await unlink(join(root, 'services/echo/src/words.ts'));
  expect(runnable(root, source)).toBe(source);
});

test('a thread is bundled with the program that starts it, packages and all', async () => {
  await write('node_modules/shout/package.json', '{"name":"shout","main":"./shout.js"}');
  await write('node_modules/shout/shout.js', `exports.shout = (word) => word.toUpperCase();`);
  await write(
    'services/echo/src/deeper/start.ts',
    `import { Worker } from 'node:worker_threads';
     export const start = () => new Worker(new URL('../thread.ts', import.meta.url));`,
  );
  await write('services/echo/src/main.ts', `import { start } from './deeper/start.ts'; start();`);
  await write('services/echo/src/thread.ts', `import { shout } from 'shout'; console.log(shout('heard') as string);`);
  await bundle(root, source);
  await rm(join(root, 'node_modules'), { recursive: true });
  expect(await runProgram(process.execPath, [join(root, bundled)])).toBe('HEARD\n');
  expect(runnable(root, source)).toBe(source);
});

test('an error that is logged tells where in the sources it came from', async () => {
  const openLog = `import { openLog } from '${join(import.meta.dirname, '../../../../services/kit/src/log.ts')}';`;
  await write('services/echo/src/main.ts', `${openLog} import { fail } from './words.ts'; fail(openLog('echo'));`);
  const fail = `export function fail(log: { error(what: object): void }): void {\n\n  log.error({ err: new Error() });\n}`;
  await write('services/echo/src/words.ts', fail);
  await bundle(root, source);
  const logged = JSON.parse(await runProgram(process.execPath, [join(root, bundled)])) as { err: { stack: string } };
  expect(logged.err.stack).toContain(`at fail (${join(root, 'services/echo/src/words.ts')}:3:20)`);
  expect(logged.err.stack).toContain(`at ${join(root, 'services/echo/src/main.ts')}:1:`);
});

test('what cannot be bundled as it is fails, and is run from its sources', async () => {
  await bundle(root, source);
  await write('services/echo/src/main.ts', `import { absent } from 'absent-package'; absent();`);
  await expect(bundle(root, source)).rejects.toThrow('services/echo/src/main.ts cannot be bundled');
  expect(runnable(root, source)).toBe(source);
});
