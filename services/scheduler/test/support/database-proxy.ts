// Stands between a scheduler and its database: counts connections, and makes answers late.
import { type Socket, connect, createServer } from 'node:net';
import { join } from 'node:path';

import { tempDir } from '@wrenn/kit/testkit/temp-dir';

export interface DatabaseProxy extends AsyncDisposable {
  // The database, through the proxy.
  readonly url: string;
  // What the server says arrives this much later.
  delayMs: number;
  // Answers that are late and have not arrived yet.
  readonly lateCount: number;
  // Connections that are open now, and the most that ever were at once since the last reset.
  readonly open: number;
  readonly peak: number;
  // All that were made since the last reset.
  readonly made: number;
  reset(): void;
  // Ends every connection.
  cut(): void;
}

const socketName = '.s.PGSQL.5432';

export async function proxyTo(databaseUrl: string): Promise<DatabaseProxy> {
  const url = new URL(databaseUrl);
  const serverSocket = join(url.searchParams.get('host') ?? '', socketName);
  const dir = await tempDir();
  const clients = new Set<Socket>();
  const state = { delayMs: 0, lateCount: 0, peak: 0, made: 0 };
  const server = createServer((client) => {
    clients.add(client);
    state.made += 1;
    state.peak = Math.max(state.peak, clients.size);
    const upstream = connect(serverSocket);
    const end = () => {
      clients.delete(client);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
    client.on('data', (bytes) => upstream.write(bytes));
    upstream.on('data', (bytes) => {
      if (state.delayMs === 0) return client.write(bytes);
      state.lateCount += 1;
      setTimeout(() => {
        state.lateCount -= 1;
        if (client.writable) client.write(bytes);
      }, state.delayMs);
    });
  });
  await new Promise<void>((resolve) => server.listen(join(dir.path, socketName), resolve));
  url.searchParams.set('host', dir.path);
  return {
    url: url.href,
    get delayMs() {
      return state.delayMs;
    },
    set delayMs(ms) {
      state.delayMs = ms;
    },
    get lateCount() {
      return state.lateCount;
    },
    get open() {
      return clients.size;
    },
    get peak() {
      return state.peak;
    },
    get made() {
      return state.made;
    },
    reset() {
      state.peak = clients.size;
      state.made = 0;
    },
    cut() {
      for (const client of clients) client.destroy();
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.destroy();
      await new Promise((resolve) => server.close(resolve));
      await dir[Symbol.asyncDispose]();
    },
  };
}
