// URLs that carry their own permission, signed as E2B's clients sign them: the agent checks them.
import { createHash } from 'node:crypto';

export interface UrlGrant {
  readonly edgeUrl: string; // Where an edge proxy serves, without a slash at its end.
  readonly sandboxId: string;
  readonly path: string;
  readonly user: string; // Empty: the template's default.
  readonly operation: 'read' | 'write';
  readonly expiresAtS: number; // Unix time.
  readonly accessToken: string;
}

const agentPort = 49_983;

export function signedUrl(grant: UrlGrant): string {
  const { edgeUrl, sandboxId, path, user, expiresAtS } = grant;
  const query = [
    `path=${encodeURIComponent(path)}`,
    ...(user === '' ? [] : [`username=${encodeURIComponent(user)}`]),
    `signature=${encodeURIComponent(signatureOf(grant))}`,
    `signature_expiration=${expiresAtS}`,
  ];
  return `${edgeUrl}/proxy/${sandboxId}/${agentPort}/files?${query.join('&')}`;
}

function signatureOf({ path, operation, user, accessToken, expiresAtS }: UrlGrant): string {
  const text = `${path}:${operation}:${user}:${accessToken}:${expiresAtS}`;
  return `v1_${createHash('sha256').update(text).digest('base64').replace(/=+$/, '')}`;
}
