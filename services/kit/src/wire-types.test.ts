import { create, toBinary } from '@bufbuild/protobuf';
import { ProcessServiceExecRequestSchema } from '@wrenn/proto/wrenn/v1/process';
import { SandboxServiceListRequestSchema } from '@wrenn/proto/wrenn/v1/sandbox';
import { expect, test } from 'vitest';

import { hasOwnWireTypes } from './wire-types.ts';

const schema = ProcessServiceExecRequestSchema;
const bytes = (...values: number[]) => Uint8Array.from(values);

test('what protobuf itself writes passes: text, bytes, numbers, maps, lists and messages in messages', () => {
  const process = { command: 'a', args: ['b', ''], env: { A: 'b' } };
  const request = { sandboxId: 'x', process, stdin: bytes(1), maxOutputBytes: 7n, timeout: { seconds: 1n, nanos: 5 } };
  expect(hasOwnWireTypes(schema, toBinary(schema, create(schema, request)))).toBe(true);
  const states = SandboxServiceListRequestSchema;
  expect(hasOwnWireTypes(states, toBinary(states, create(states, { states: [1, 2, 3] })))).toBe(true);
  expect(hasOwnWireTypes(states, bytes(8, 1, 8, 2))).toBe(true); // One by one.
});

test('fields that nobody knows pass in any encoding', () => {
  expect(hasOwnWireTypes(schema, bytes(0xa0, 6, 1, 0xa2, 6, 1, 0, 0xa5, 6, 1, 2, 3, 4))).toBe(true);
});

test.each([
  ['text as a number', bytes(8, 0)],
  ['bytes as a number', bytes(0x18, 0)],
  ['a number as text', bytes(0x2a, 0)],
  ['a number of fixed size for one of any', bytes(0x29, 0, 0, 0, 0, 0, 0, 0, 0)],
  ['a message as a number', bytes(0x10, 0)],
  ['text as a number in a message', bytes(0x12, 2, 8, 0)],
  ['a map as a number', bytes(0x12, 2, 0x18, 0)],
])('%s does not', (_what, message) => {
  expect(hasOwnWireTypes(schema, message)).toBe(false);
});

test('bytes that are no message are told as such', () => {
  expect(() => hasOwnWireTypes(schema, bytes(10, 200, 1))).toThrow();
  expect(() => hasOwnWireTypes(schema, bytes(0, 0))).toThrow();
});
