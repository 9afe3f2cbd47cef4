// Checks for values that cross a boundary. Each names the field and says what would be accepted.
import type { Duration } from '@bufbuild/protobuf/wkt';

import { msOfDuration } from './duration.ts';
import { invalidField } from './errors.ts';
import { type SandboxId, type SnapshotId, isSandboxId, isSnapshotId } from './ids.ts';

const namePattern = /^[a-z][a-z0-9-]{0,62}$/;
const envNamePattern = /^[A-Za-z_][A-Za-z0-9_]*$/;

export function requireSandboxId(value: string, field = 'sandbox_id'): SandboxId {
  if (!isSandboxId(value)) throw invalidField(field, 'must be `cl-` and 25 characters 0-9a-z');
  return value;
}

export function requireSnapshotId(value: string, field = 'snapshot_id'): SnapshotId {
  if (!isSnapshotId(value)) throw invalidField(field, 'must be `sn-` and 25 characters 0-9a-z');
  return value;
}

// A template, image or host name.
export function requireName(value: string, field: string): string {
  if (!namePattern.test(value))
    throw invalidField(field, 'must be 1 to 63 characters a-z, 0-9, -, starting with a letter');
  return value;
}

export function requireWithin(value: number, field: string, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) throw invalidField(field, `must be ${min} to ${max}`);
  return value;
}

export function requireBytesWithin(value: bigint, field: string, min: number, max: number, multipleOf: number): number {
  const bytes = Number(value);
  if (bytes < min || bytes > max || bytes % multipleOf !== 0) {
    throw invalidField(field, `must be ${min} to ${max} bytes and a multiple of ${multipleOf}`);
  }
  return bytes;
}

export function requireDurationWithin(value: Duration, field: string, minMs: number, maxMs: number): number {
  const ms = msOfDuration(value);
  if (!(ms >= minMs && ms <= maxMs)) throw invalidField(field, `must be ${minMs} ms to ${maxMs} ms`);
  return ms;
}

export function requireEnv(env: Readonly<Record<string, string>>, field: string, maxBytes = 65_536): void {
  let bytes = 0;
  for (const [name, value] of Object.entries(env)) {
    if (!envNamePattern.test(name))
      throw invalidField(field, `${JSON.stringify(name.slice(0, 64))} is no variable name`);
    if (value.includes('\0')) throw invalidField(field, `the value of ${name} holds a NUL`);
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value) + 2;
  }
  if (bytes > maxBytes) throw invalidField(field, `must be at most ${maxBytes} bytes in all`);
}
