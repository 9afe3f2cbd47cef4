// Tells whether a source file is, beyond doubt, the one that was imported before, without reading it:
// any write to a file moves its ctime, which no program can set back.
import { z } from 'zod';

// Decimal texts, since device and inode numbers and nanoseconds do not fit a JSON number.
const decimal = z.string().regex(/^\d+$/);

export const sourceFingerprint = z.object({
  device: decimal,
  inode: decimal,
  sizeBytes: decimal,
  mtimeNs: decimal,
  ctimeNs: decimal,
});
export type SourceFingerprint = z.infer<typeof sourceFingerprint>;

export interface Source {
  readonly path: string;
  readonly sizeBytes: number;
  readonly fingerprint: SourceFingerprint;
}

// The kernel stamps times at its own tick only: a file written twice within one looks unchanged, so a
// fingerprint proves nothing until its ctime is safely past.
const settleMs = 1000;

export function isSettled(fingerprint: SourceFingerprint, nowMs: number): boolean {
  return Number(BigInt(fingerprint.ctimeNs) / 1_000_000n) + settleMs < nowMs;
}

export function isSameSource(a: SourceFingerprint | null, b: SourceFingerprint): boolean {
  return (
    a !== null &&
    a.device === b.device &&
    a.inode === b.inode &&
    a.sizeBytes === b.sizeBytes &&
    a.mtimeNs === b.mtimeNs &&
    a.ctimeNs === b.ctimeNs
  );
}
