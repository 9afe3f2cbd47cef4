// How plain listeners bind, and how those for HTTP end.
import type { Server as HttpServer } from 'node:http';
import type { ListenOptions, Server } from 'node:net';

// Of `host:port`; an IPv6 host stands in brackets.
export function hostAndPort(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replaceAll(/[[\]]/g, ''), port: Number(address.slice(colon + 1)) };
}

// Binds `host:port` or `unix:/path` and resolves to the port, 0 for a path.
export async function listenAt(server: Server, address: string): Promise<number> {
  const where: ListenOptions = address.startsWith('unix:')
    ? { path: address.slice('unix:'.length) }
    : hostAndPort(address);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const bound = server.address();
  return bound !== null && typeof bound === 'object' ? bound.port : 0;
}

// Cuts what is under way. Also of one that never listened.
export async function closeHttp(server: HttpServer): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}
