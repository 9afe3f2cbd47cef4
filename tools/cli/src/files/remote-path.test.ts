import { expect, test } from 'vitest';

import { joinRemote, parseRemotePath, relativePath, requireRemotePath } from './remote-path.ts';

test.each([
  ['cl-4f0:/srv/a', { sandbox: 'cl-4f0', path: '/srv/a' }],
  ['4f0:relative', { sandbox: '4f0', path: 'relative' }],
  ['cl-4f0:/a:b', { sandbox: 'cl-4f0', path: '/a:b' }],
  ['cl-4f0:.', { sandbox: 'cl-4f0', path: '.' }],
  ['/srv/a', undefined],
  ['./a:b', undefined],
  ['/a:b', undefined],
  ['dir/a:b', undefined],
  [':/a', undefined],
  ['-', undefined],
  ['', undefined],
])('%j names %j', (text, remote) => {
  expect(parseRemotePath(text)).toEqual(remote);
});

test('a sandbox without a path, and a path without a sandbox, are refused with how to write it', () => {
  expect(() => parseRemotePath('cl-4f0:')).toThrow(/write it like cl-4f0:\/tmp\/file/);
  expect(() => requireRemotePath('/tmp/file')).toThrow(/write it like cl-4f0:\/tmp\/file/);
});

test('names join with one slash', () => {
  expect([joinRemote('/a', 'b'), joinRemote('/a/', 'b'), joinRemote('/', 'b')]).toEqual(['/a/b', '/a/b', '/b']);
});

test.each([
  ['/srv', '/srv/a', 'a'],
  ['/srv/', '/srv/a/b', 'a/b'],
  ['/', '/a', 'a'],
  ['/srv', '/srv', undefined],
  ['/srv', '/srvx/a', undefined],
  ['/srv', '/etc/passwd', undefined],
  ['/srv', '/srv/../etc/passwd', undefined],
  ['/srv', '/srv/a/../../b', undefined],
  ['/srv', '/srv/./a', undefined],
  ['/srv', '/srv//etc', undefined],
  ['/srv', '/srv/a\0b', undefined],
])('below %j, %j is %j', (directory, entry, relative) => {
  expect(relativePath(directory, entry)).toBe(relative);
});
