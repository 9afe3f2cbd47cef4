// The bounds of a machine, the same for templates and for creates.
import { requireBytesWithin, requireWithin } from '@wrenn/kit/validate';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

export function requireVcpuCount(value: number, field: string): number {
  return requireWithin(value, field, 1, 32);
}

export function requireMemoryBytes(value: bigint, field: string): number {
  return requireBytesWithin(value, field, 96 * MiB, 64 * GiB, 2 * MiB);
}

export function requireDiskBytes(value: bigint, field: string): number {
  return requireBytesWithin(value, field, MiB, 1024 * GiB, MiB);
}
