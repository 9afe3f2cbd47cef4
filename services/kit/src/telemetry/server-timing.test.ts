import { expect, test } from 'vitest';

import { reportedSteps } from './server-timing.ts';

test('takes the whole and its steps', () => {
  expect(reportedSteps('handler;dur=3.250, freeze;dur=2, drop;dur=0.5', 10)).toEqual([
    { name: 'handler', durationMs: 3.25 },
    { name: 'freeze', durationMs: 2 },
    { name: 'drop', durationMs: 0.5 },
  ]);
});

test.each([
  ['', 'nothing'],
  ['handler;dur=11', 'longer than the call'],
  ['handler;dur=3, freeze;dur=2, drop;dur=2', 'steps longer than their whole'],
  ['handler;dur=-1', 'a time that cannot be'],
  ['handler;dur=1e3', 'a time that is written otherwise'],
  ['handler;dur=NaN', 'no time'],
  ['handler;desc="x";dur=1', 'a text of its own'],
  ['rm -rf;dur=1', 'a name that is none'],
  [`${'a'.repeat(40)};dur=1`, 'a long name'],
  [Array.from({ length: 9 }, () => 'a;dur=0').join(', '), 'too many'],
  ['a;dur=0, '.repeat(200), 'too much'],
])('takes nothing of %s', (header) => {
  expect(reportedSteps(header, 10)).toBeUndefined();
});
