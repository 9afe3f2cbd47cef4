import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { codeOf } from '@wrenn/kit/errors';
import { expect, test } from 'vitest';

import { readMentions, readReasons, renderTable } from './reason-table.ts';

const source = `
export const codeOf = {
  GONE: Status.NOT_FOUND, // It is gone. Do: look elsewhere.
  FULL: Status.RESOURCE_EXHAUSTED, // There is no room. Do: wait.
};`;
const proto = `
// Keeps things.
// Common errors: NOT_FOUND(GONE).
service ThingService {
  // Put puts. Errors: RESOURCE_EXHAUSTED(FULL |
  // FULL), and QEMU(GONE) is no code.
  rpc Put(PutRequest) returns (PutResponse);
  // Copy copies. Errors of putting as Put.
  rpc Copy(CopyRequest) returns (CopyResponse);
}`;

test('reads meaning and advice of every reason that there is', async () => {
  const real = readReasons(await readFile(join(import.meta.dirname, '../../services/kit/src/errors.ts'), 'utf8'));
  expect(real.map(({ reason }) => reason)).toEqual(Object.keys(codeOf));
});

test('refuses a reason that nobody explained', () => {
  expect(() => readReasons('  NEW: Status.INTERNAL,')).toThrow(/NEW: needs a comment/);
  expect(() => readReasons('  NEW: Status.INTERNAL, // It means so.')).toThrow(/NEW: needs a comment/);
});

test('says which rpcs name a reason, those that refer to another one too', () => {
  const lines = renderTable(readReasons(source), readMentions(proto)).split('\n');
  expect(lines[2]).toMatch(
    /^\| `GONE` +\| NOT_FOUND +\| It is gone\. +\| Look elsewhere\. +\| all of ThingService +\|$/,
  );
  expect(lines[3]).toMatch(/\| ThingService Put, Copy \|$/);
});

test.each([
  ['NOT_FOUND(LOST)', /ThingService.Put names LOST/],
  ['INTERNAL(FULL)', /ThingService.Put gives FULL the code INTERNAL; it is RESOURCE_EXHAUSTED/],
])('refuses a proto that says %s', (claim, problem) => {
  const mentions = readMentions(proto.replace('RESOURCE_EXHAUSTED(FULL |', claim).replace('// FULL)', '//'));
  expect(() => renderTable(readReasons(source), mentions)).toThrow(problem);
});
