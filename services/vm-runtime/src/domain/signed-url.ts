// URLs that carry their own permission, signed as E2B's clients sign them: the agent checks them.
import { type SignedFile, fileSignature } from '@wrenn/kit/file-signature';

export interface UrlGrant extends SignedFile {
  readonly edgeUrl: string; // Where an edge proxy serves, without a slash at its end.
  readonly sandboxId: string;
  readonly expiresAtS: number;
}

const agentPort = 49_983;

export function signedUrl(grant: UrlGrant): string {
  const { edgeUrl, sandboxId, path, user, expiresAtS } = grant;
  const query = [
    `path=${encodeURIComponent(path)}`,
    ...(user === '' ? [] : [`username=${encodeURIComponent(user)}`]),
    `signature=${encodeURIComponent(fileSignature(grant))}`,
    `signature_expiration=${expiresAtS}`,
  ];
  return `${edgeUrl}/proxy/${sandboxId}/${agentPort}/files?${query.join('&')}`;
}
