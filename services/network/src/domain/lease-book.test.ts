import { newSandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { readBook, writeBook } from './lease-book.ts';

const range = { first: 10, last: 20 };
const [a, b] = [newSandboxId(), newSandboxId()];
const book = (...leases: unknown[]) => JSON.stringify({ version: 1, leases });

test('reads what it wrote', () => {
  const leases = new Map([
    [a, 10],
    [b, 20],
  ]);
  expect(readBook(writeBook(leases), range)).toEqual(leases);
  expect(readBook(writeBook(new Map()), range)).toEqual(new Map());
});

test.each([
  ['an empty file', '', /JSON/],
  ['half a file', writeBook(new Map([[a, 10]])).slice(0, 40), /JSON/],
  ['another version', JSON.stringify({ version: 2, leases: [] }), /version/],
  ['an unknown field', JSON.stringify({ version: 1, leases: [], more: 1 }), /more/],
  ['an owner that is no sandbox', book({ owner: '../x', slot: 11 }), /no sandbox id/],
  ['a slot that is no number', book({ owner: a, slot: '11' }), /slot/],
  ['one owner twice', book({ owner: a, slot: 11 }, { owner: a, slot: 12 }), /listed twice/],
  ['one slot twice', book({ owner: a, slot: 11 }, { owner: b, slot: 11 }), /slot 11 is listed twice/],
  ['a slot outside of the range', book({ owner: a, slot: 21 }), /holds slot 21, outside of this service's 10 to 20/],
])('refuses %s', (_what, text, problem) => {
  expect(() => readBook(text, range)).toThrow(problem);
});
