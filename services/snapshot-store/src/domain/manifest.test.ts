import { expect, test } from 'vitest';

import {
  type DiskManifest,
  type ImageManifest,
  manifestText,
  parseDiskManifest,
  parseImageManifest,
} from './manifest.ts';

const digest = `sha256:${'ab'.repeat(32)}`;
const at = '2026-01-01T00:00:00.000Z';
const image: ImageManifest = {
  format: 'wrenn.image/1',
  name: 'debian',
  digest,
  virtualBytes: 1 << 20,
  importedAt: at,
  source: { device: '1', inode: '18446744073709551615', sizeBytes: '1048576', mtimeNs: '1', ctimeNs: '2' },
};
const disk: DiskManifest = {
  format: 'wrenn.disk/1',
  id: 'cl-0',
  image: 'debian',
  imageDigest: digest,
  diskFormat: 'qcow2',
  virtualBytes: 1 << 30,
  parentId: 'sn-1',
  layers: ['sn-1', 'sn-0'],
  createdAt: at,
};

test('a manifest is read back as it was written', () => {
  expect(parseImageManifest(manifestText(image), 'debian', digest)).toEqual({ manifest: image });
  expect(parseDiskManifest(manifestText(disk), 'cl-0')).toEqual({ manifest: disk });
});

test('a disk manifest of an older version stands on its image alone', () => {
  const { parentId: _parentId, layers: _layers, ...older } = disk;
  expect(parseDiskManifest(JSON.stringify(older), 'cl-0')).toEqual({
    manifest: { ...disk, parentId: null, layers: [] },
  });
});

test('fields of a later version are passed over', () => {
  const text = JSON.stringify({ ...disk, later: true });
  expect(parseDiskManifest(text, 'cl-0')).toEqual({ manifest: disk });
});

test('every cut of a manifest is refused', () => {
  const text = manifestText(image).trimEnd();
  for (let length = 0; length < text.length; length++) {
    expect(parseImageManifest(text.slice(0, length), 'debian', digest)).toHaveProperty('problem');
  }
});

test.each([
  ['another format', { format: 'wrenn.image/2' }],
  ['a size that is no number', { virtualBytes: '1' }],
  ['a negative size', { virtualBytes: -1 }],
  ['a digest of another kind', { digest: 'md5:00' }],
  ['a source that is no fingerprint', { source: {} }],
])('an image manifest with %s is refused', (_what, change) => {
  const text = JSON.stringify({ ...image, ...change });
  expect(parseImageManifest(text, 'debian', digest)).toHaveProperty('problem');
});

test('a manifest in the place of another is refused', () => {
  expect(parseImageManifest(manifestText(image), 'minimal', digest)).toHaveProperty('problem');
  expect(parseImageManifest(manifestText(image), 'debian', `sha256:${'cd'.repeat(32)}`)).toHaveProperty('problem');
  expect(parseDiskManifest(manifestText(disk), 'cl-1')).toHaveProperty('problem');
});
