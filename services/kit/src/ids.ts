// Ids are made and checked here only: `cl-` for a sandbox or `sn-` for a snapshot, and a random 128-bit value in
// base 36.
import { randomBytes } from 'node:crypto';

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
export type SandboxId = Brand<string, 'SandboxId'>;
export type SnapshotId = Brand<string, 'SnapshotId'>;

const sandboxIdPattern = /^cl-[0-9a-z]{25}$/;
const snapshotIdPattern = /^sn-[0-9a-z]{25}$/;

export type RandomBytes = (size: number) => Uint8Array;

export function newSandboxId(random: RandomBytes = randomBytes): SandboxId {
  return `cl-${base36(random)}` as SandboxId;
}

export function isSandboxId(text: string): text is SandboxId {
  return sandboxIdPattern.test(text);
}

export function newSnapshotId(random: RandomBytes = randomBytes): SnapshotId {
  return `sn-${base36(random)}` as SnapshotId;
}

export function isSnapshotId(text: string): text is SnapshotId {
  return snapshotIdPattern.test(text);
}

export function newErrorId(): string {
  return randomBytes(6).toString('hex');
}

// Tells this life of a process or thread from all others.
export function newInstanceId(): string {
  return randomBytes(8).toString('hex');
}

// 25 characters 0-9a-z.
export function base36(random: RandomBytes): string {
  const value = BigInt(`0x${Buffer.from(random(16)).toString('hex')}`);
  return value.toString(36).padStart(25, '0');
}
