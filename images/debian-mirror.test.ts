import { expect, test } from 'vitest';
import { sourceLines } from './debian-mirror.ts';

const suites = ['bookworm', 'bookworm-updates', 'bookworm-security'];

test('the mirrors configured on the machine serve each suite of the release', () => {
  const targets = [
    'Debian bookworm http://mirror.example/debian/ main',
    'Debian bookworm http://mirror.example/debian/ contrib',
    'Debian bookworm-security http://mirror.example/security/ main',
    'Debian bookworm-security http://mirror.example/security/ main',
    'Debian trixie http://mirror.example/debian/ main',
    'Somebody bookworm http://elsewhere.example/ main',
    '',
  ].join('\n');
  expect(sourceLines(targets, suites)).toEqual([
    'deb http://mirror.example/debian/ bookworm main',
    'deb http://mirror.example/security/ bookworm-security main',
  ]);
});

test('a machine without a Debian mirror for the release has none to offer', () => {
  expect(sourceLines('Somebody bookworm http://elsewhere.example/ main', suites)).toBeUndefined();
  expect(sourceLines('Debian bookworm-security http://mirror.example/security/ main', suites)).toBeUndefined();
});
