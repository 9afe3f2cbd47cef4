import { create } from '@bufbuild/protobuf';
import { FileEntrySchema, FileType } from '@wrenn/proto/wrenn/v1/filesystem';
import { expect, test } from 'vitest';

import { entryTable, modeText } from './files.ts';

test.each([
  [FileType.FILE, 0o644, '-rw-r--r--'],
  [FileType.DIRECTORY, 0o1777, 'drwxrwxrwt'],
  [FileType.DIRECTORY, 0o1770, 'drwxrwx--T'],
  [FileType.FILE, 0o4755, '-rwsr-xr-x'],
  [FileType.FILE, 0o2644, '-rw-r-Sr--'],
  [FileType.SYMLINK, 0o777, 'lrwxrwxrwx'],
  [FileType.UNSPECIFIED, 0, '?---------'],
])('type %i with mode %o is written %s', (type, mode, text) => {
  expect(modeText({ type, mode })).toBe(text);
});

test('entries are named below what was listed, links with their target, and what a guest wrote is escaped', () => {
  const common = { type: FileType.FILE, sizeBytes: 2048n, mode: 0o600, owner: 'ann', group: 'ann' };
  const entries = [
    create(FileEntrySchema, { ...common, path: '/srv/a/b', modifiedAt: { seconds: 1_700_000_000n, nanos: 5 } }),
    create(FileEntrySchema, { ...common, path: '/srv/c\u001b[2J', symlinkTarget: 'no\nwhere' }),
  ];
  const [head, first, second] = entryTable(entries, '/srv').split('\n');
  expect(head).toMatch(/^MODE +OWNER +GROUP +SIZE +MODIFIED +NAME$/);
  expect(first).toMatch(/^-rw------- +ann +ann +2 KiB +2023-11-14T22:13:20Z +a\/b$/);
  expect(second).toMatch(/ - +c\\u\{1b\}\[2J -> no\\u\{a\}where$/);
});
