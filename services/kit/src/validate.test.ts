import { expect, test } from 'vitest';

import { WrennError } from './errors.ts';
import {
  requireBytesWithin,
  requireDurationWithin,
  requireEnv,
  requireName,
  requireSandboxId,
  requireWithin,
} from './validate.ts';

const MiB = 1024 * 1024;
const duration = (seconds: bigint, nanos = 0) => ({ $typeName: 'google.protobuf.Duration', seconds, nanos }) as const;

// What is refused, with the field that each refusal names.
const refused: readonly [string, string, () => unknown][] = [
  ['a foreign id', 'sandbox_id', () => requireSandboxId('sb-1')],
  ['an empty name', 'template', () => requireName('', 'template')],
  ['a name in capitals', 'template', () => requireName('Debian', 'template')],
  ['a name starting with a digit', 'template', () => requireName('9front', 'template')],
  ['a name with a slash', 'template', () => requireName('a/../b', 'template')],
  ['a name of 64 characters', 'template', () => requireName('a'.repeat(64), 'template')],
  ['a number below', 'vcpu_count', () => requireWithin(0, 'vcpu_count', 1, 32)],
  ['a number above', 'vcpu_count', () => requireWithin(33, 'vcpu_count', 1, 32)],
  ['a broken number', 'vcpu_count', () => requireWithin(1.5, 'vcpu_count', 1, 32)],
  ['NaN', 'vcpu_count', () => requireWithin(NaN, 'vcpu_count', 1, 32)],
  ['too few bytes', 'memory_bytes', () => requireBytesWithin(1n, 'memory_bytes', MiB, 8 * MiB, 1)],
  ['bytes off the step', 'memory_bytes', () => requireBytesWithin(BigInt(MiB + 1), 'memory_bytes', MiB, 8 * MiB, MiB)],
  ['bytes beyond 2^53', 'memory_bytes', () => requireBytesWithin(2n ** 64n - 1n, 'memory_bytes', MiB, 8 * MiB, MiB)],
  ['a negative duration', 'ttl', () => requireDurationWithin(duration(-1n), 'ttl', 0, 1000)],
  ['a duration a microsecond too long', 'ttl', () => requireDurationWithin(duration(1n, 1000), 'ttl', 0, 1000)],
  ['a variable name with =', 'env', () => requireEnv({ 'A=B': '' }, 'env')],
  ['an empty variable name', 'env', () => requireEnv({ '': '' }, 'env')],
  ['a value with NUL', 'env', () => requireEnv({ A: '\0' }, 'env')],
  ['an environment too large', 'env', () => requireEnv({ A: 'x'.repeat(65_536) }, 'env')],
];

test.each(refused)('%s is refused naming %s', (_what, field, check) => {
  expect(check).toThrow(WrennError);
  expect(check).toThrow(expect.objectContaining({ reason: 'INVALID_FIELD', meta: { field } }));
});

test('values at their limits pass', () => {
  expect(requireName('a'.repeat(63), 'f')).toHaveLength(63);
  expect(requireWithin(32, 'f', 1, 32)).toBe(32);
  expect(requireBytesWithin(BigInt(8 * MiB), 'f', MiB, 8 * MiB, MiB)).toBe(8 * MiB);
  expect(requireDurationWithin(duration(1n), 'f', 0, 1000)).toBe(1000);
  expect(() => requireEnv({ _a9: 'ü'.repeat(32_765) }, 'f')).not.toThrow();
});
