// One supervisor per run directory. The claim is an abstract unix socket: the kernel gives it to one
// process and takes it back when that process dies, however it dies.
import { type Server, connect, createServer } from 'node:net';

export interface Claim {
  release(): Promise<void>;
}

export class AlreadyRunning extends Error {
  override readonly name = 'AlreadyRunning';
}

export async function claimRunDir(runDir: string): Promise<Claim> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'EADDRINUSE' ? new AlreadyRunning(`a mesh runs in ${runDir} already`) : error);
    });
    server.listen({ path: socketName(runDir) }, resolve);
  });
  server.unref();
  return { release: () => closed(server) };
}

export function isClaimed(runDir: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketName(runDir) });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else reject(error);
    });
  });
}

function socketName(runDir: string): string {
  return `\0wrenn-mesh:${runDir}`;
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
