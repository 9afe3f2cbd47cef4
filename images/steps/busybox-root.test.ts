import { lstat, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { runProgram } from '@wrenn/kit/run-program';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { makeBusyboxRoot } from './busybox-root.ts';

test('a process confined to the tree finds its tools, its users and a place for temporary files', async () => {
  await using dir = await tempDir();
  await makeBusyboxRoot(dir.path);
  const script = 'id user; echo ~user; head -n 1 /etc/passwd; ls -d /tmp /usr/bin /var/run; /usr/bin/env echo works';
  const said = await runProgram('chroot', [dir.path, '/bin/sh', '-c', script]);
  expect(said.split('\n')).toEqual([
    'uid=1000(user) gid=1000(user) groups=1000(user)',
    '/home/user',
    'root:x:0:0:root:/root:/bin/sh',
    '/tmp',
    '/usr/bin',
    '/var/run',
    'works',
    '',
  ]);
});

test('only the owner can write where only the owner should', async () => {
  await using dir = await tempDir();
  await makeBusyboxRoot(dir.path);
  expect((await stat(join(dir.path, 'tmp'))).mode & 0o7777).toBe(0o1777);
  expect((await stat(join(dir.path, 'root'))).mode & 0o7777).toBe(0o700);
  expect((await stat(join(dir.path, 'home/user'))).uid).toBe(1000);
  expect((await lstat(join(dir.path, 'bin/sh'))).isSymbolicLink()).toBe(true);
  expect(await readlink(join(dir.path, 'bin/sh'))).toBe('busybox');
});
