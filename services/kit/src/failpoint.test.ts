import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, expect, test } from 'vitest';

import { ConfigError } from './config.ts';
import { armFailpoints, failpoint } from './failpoint.ts';
import { openLog } from './log.ts';
import { tempDir } from './testkit/temp-dir.ts';

const log = openLog('test', 'silent');
const arm = (failpoints: string | undefined) => armFailpoints({ failpoints, allowFailpoints: '1' }, log);
afterEach(() => arm(undefined));

test('does nothing unless it is armed by its name', async () => {
  await failpoint('vm.spawn.after');
  arm('vm.spawn.before=error');
  await failpoint('vm.spawn.after');
  await expect(failpoint('vm.spawn.before')).rejects.toMatchObject({ reason: 'INTERNAL' });
});

test('is refused where nobody has said that failing on purpose is meant', () => {
  expect(() => armFailpoints({ failpoints: 'vm.spawn.after=exit' }, log)).toThrow(ConfigError);
});

test.each(['nonsense', 'vm.spawn.after', 'vm.spawn.after=explode', 'vm.spawn.after=delay', 'vm.other=exit'])(
  'names the entry that it does not understand: %s',
  (spec) => {
    expect(() => arm(spec)).toThrow(spec);
  },
);

test('delays by what it is told', async () => {
  arm('vm.spawn.after=delay:60, vm.destroy.begun=delay:1');
  const startedMs = performance.now();
  await failpoint('vm.spawn.after');
  expect(performance.now() - startedMs).toBeGreaterThan(55);
});

test('holds up everything else where it is told to block', async () => {
  arm('vm.spawn.after=block:60');
  let hasTicked = false;
  const timer = setTimeout(() => (hasTicked = true), 5);
  const startedMs = performance.now();
  await failpoint('vm.spawn.after');
  expect(performance.now() - startedMs).toBeGreaterThan(55);
  expect(hasTicked).toBe(false);
  clearTimeout(timer);
});

test('a file arms a service that runs already, and disarms it', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'failpoints');
  arm(`@${path}`);
  await failpoint('vm.destroy.begun');
  await writeFile(path, 'vm.destroy.begun=error\n');
  await expect(failpoint('vm.destroy.begun')).rejects.toThrow('vm.destroy.begun');
  await writeFile(path, '');
  await failpoint('vm.destroy.begun');
});

test('an exit is as sudden as kill -9', () => {
  const script = `
    import { armFailpoints, failpoint } from '${import.meta.dirname}/failpoint.ts';
    process.on('exit', () => console.log('said goodbye'));
    armFailpoints({ failpoints: 'vm.spawn.after=exit', allowFailpoints: '1' }, { warn() {} });
    await failpoint('vm.spawn.after');
    console.log('lived on');`;
  const { signal, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  expect([signal, stdout]).toEqual(['SIGKILL', '']);
});
