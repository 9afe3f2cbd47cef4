// Ids are made and checked here only. A sandbox id is `cl-` and a random 128-bit value in base 36.
import { randomBytes } from 'node:crypto';

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
export type SandboxId = Brand<string, 'SandboxId'>;

const sandboxIdPattern = /^cl-[0-9a-z]{25}$/;

export type RandomBytes = (size: number) => Uint8Array;

export function newSandboxId(random: RandomBytes = randomBytes): SandboxId {
  const value = BigInt(`0x${Buffer.from(random(16)).toString('hex')}`);
  return `cl-${value.toString(36).padStart(25, '0')}` as SandboxId;
}

export function isSandboxId(text: string): text is SandboxId {
  return sandboxIdPattern.test(text);
}

export function newErrorId(): string {
  return randomBytes(6).toString('hex');
}
