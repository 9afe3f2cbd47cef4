import { expect, test } from 'vitest';

import { type ImageUser, type ImageVersion, needs, supersededVersions, userOfImage } from './references.ts';

const version = (digest: string, isCurrent: boolean): ImageVersion => ({
  name: 'debian',
  digest,
  path: `/images/debian/${digest}`,
  virtualBytes: 1,
  realBytes: 1,
  isCurrent,
  source: null,
  problem: '',
});
const disk = (image: string, imageDigest: string): ImageUser => ({
  kind: 'disk',
  id: `on-${imageDigest}`,
  image,
  imageDigest,
});

test('a version goes once it is superseded and no disk stands on it', () => {
  const [older, old, current] = [version('1', false), version('2', false), version('3', true)];
  expect(supersededVersions([older, old, current], [disk('debian', '2')])).toEqual([older]);
  expect(supersededVersions([older, old, current], [])).toEqual([older, old]);
});

test('without a current version none goes', () => {
  expect(supersededVersions([version('1', false), version('2', false)], [])).toEqual([]);
});

test('a disk that cannot say what it needs keeps every image', () => {
  const unknown = disk('', '');
  expect(supersededVersions([version('1', false), version('2', true)], [unknown])).toEqual([]);
  expect(userOfImage([unknown], 'debian')).toBe(unknown);
});

test('a disk needs its own image and version only', () => {
  const one = disk('debian', '1');
  expect(needs(one, 'debian', '1')).toBe(true);
  expect(needs(one, 'debian', '2')).toBe(false);
  expect(needs(one, 'minimal', '1')).toBe(false);
  expect(userOfImage([one], 'minimal')).toBeUndefined();
});
