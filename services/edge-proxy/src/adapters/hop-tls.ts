// How two edges know each other: TLS with a key that both were given, without certificates. Who does not have it gets
// no further than the handshake; who listens on the way reads and changes nothing.
import { readFile } from 'node:fs/promises';
import { type SecureContext, createSecureContext } from 'node:tls';

const identity = 'wrenn-edge';
const minSecretBytes = 32;

export async function readHopSecret(path: string): Promise<Buffer> {
  const secret = await readFile(path);
  if (secret.length < minSecretBytes) throw new Error(`${path}: a secret of edges has ${minSecretBytes} bytes or more`);
  return secret;
}

// Node takes such keys up to TLS 1.2 only. With keys of the moment, so that one that leaks opens nothing of before.
export function hopContext(): SecureContext {
  const version = 'TLSv1.2';
  return createSecureContext({ minVersion: version, maxVersion: version, ciphers: 'ECDHE-PSK-CHACHA20-POLY1305' });
}

export const keyForServer = (secret: Buffer) => ({
  pskCallback: (_socket: unknown, name: string) => (name === identity ? secret : null),
});
export const keyForClient = (secret: Buffer) => ({ pskCallback: () => ({ psk: secret, identity }) });
