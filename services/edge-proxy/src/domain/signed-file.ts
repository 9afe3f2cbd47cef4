// Single files of a guest, served by its agent to who has an URL that was signed for one. The agent checks it too:
// the edge does, so that what is not signed neither tells that a sandbox is there nor wakes it.
import { fileSignature } from '@wrenn/kit/file-signature';

import { isDigits } from './fields.ts';
import type { RequestHead } from './request-head.ts';

export interface SignedRequest {
  readonly path: string;
  readonly user: string;
  readonly operation: 'read' | 'write';
  readonly signature: string;
  readonly expiresAtS: number | undefined;
}

const operations: ReadonlyMap<string, 'read' | 'write'> = new Map([
  ['GET', 'read'],
  ['HEAD', 'read'],
  ['POST', 'write'],
]);

// Byte for byte: what another parser could read as this path or this parameter is not taken for it.
export function signedRequestOf({ method, upgrade }: RequestHead, target: string): SignedRequest | undefined {
  const queryStart = target.indexOf('?');
  const path = target.slice(0, Math.max(queryStart, 0));
  const query = target.slice(queryStart + 1);
  const operation = operations.get(method);
  if (path !== '/files' || operation === undefined || upgrade !== undefined) return undefined;
  const named = query.split('&').filter((parameter) => parameter.startsWith('signature='));
  if (named.length !== 1 || named[0] === 'signature=') return undefined;
  const parameters = new URLSearchParams(query);
  const expiration = parameters.get('signature_expiration');
  if (expiration !== null && (!isDigits(expiration) || expiration.length > 15)) return undefined;
  return {
    path: parameters.get('path') ?? '',
    user: parameters.get('username') ?? '',
    operation,
    // Base64 has pluses, which careless clients leave as they are.
    signature: (parameters.get('signature') ?? '').replaceAll(' ', '+'),
    expiresAtS: expiration === null ? undefined : Number(expiration),
  };
}

export function signatureFor(request: SignedRequest, accessToken: string): string {
  return fileSignature({ ...request, accessToken });
}
