// What makes an URL of a file good: the text that E2B's clients hash, with the sandbox's secret in it.
import { createHash } from 'node:crypto';

export interface SignedFile {
  readonly path: string;
  readonly operation: 'read' | 'write';
  readonly user: string; // Empty: the template's default.
  readonly accessToken: string;
  readonly expiresAtS: number | undefined; // Unix time; undefined: never.
}

export function fileSignature({ path, operation, user, accessToken, expiresAtS }: SignedFile): string {
  const text = [path, operation, user, accessToken, ...(expiresAtS === undefined ? [] : [expiresAtS])].join(':');
  return `v1_${createHash('sha256').update(text).digest('base64').replace(/=+$/, '')}`;
}
