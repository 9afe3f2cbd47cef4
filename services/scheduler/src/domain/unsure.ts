import { WrennError, hasReason } from '@wrenn/kit/errors';

// After these nobody knows what the host did, or still does. Any other is a host's own word that it is done.
export function isUnsure(error: unknown): boolean {
  const reasons = [
    'SERVICE_UNAVAILABLE',
    'DEADLINE_EXCEEDED',
    'CANCELLED',
    'DATABASE_UNAVAILABLE',
    'INTERNAL',
  ] as const;
  return !(error instanceof WrennError) || hasReason(error, ...reasons);
}
