// At most one service at a time for a state directory and for a slot. Abstract unix sockets carry the
// claim: the kernel lets go of them with the process, however it ends.
import { createHash } from 'node:crypto';
import { readFile, realpath } from 'node:fs/promises';
import { type Server, createServer } from 'node:net';

import type { SlotRange } from '../domain/slot.ts';

const prefix = 'wrenn-network';

export interface Claim {
  close(): Promise<void>;
}

export async function claimSlots(range: SlotRange, stateDir: string): Promise<Claim> {
  const digest = createHash('sha256').update(await realpath(stateDir));
  const directory = await hold(`dir/${digest.digest('hex').slice(0, 16)}`, `the state directory ${stateDir}`);
  const slots = await hold(`slots/${range.first}-${range.last}`, `the slots ${range.first} to ${range.last}`);
  const others = (await claimedRanges()).filter((other) => other.first <= range.last && other.last >= range.first);
  if (others.length > 1) {
    const taken = others.map(({ first, last }) => `${first} to ${last}`).join(' and ');
    throw new Error(`slot ranges overlap: ${taken}; give each network service on a host a range of its own`);
  }
  return {
    async close() {
      await Promise.all([release(directory), release(slots)]);
    },
  };
}

function hold(name: string, what: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.on('error', (cause: NodeJS.ErrnoException) => {
      reject(cause.code === 'EADDRINUSE' ? new Error(`another network service uses ${what}`, { cause }) : cause);
    });
    server.listen(`\0${prefix}/${name}`, () => resolve(server));
  });
}

// Every live claim on this host, our own among them. One that is made at the same time as ours sees us.
async function claimedRanges(): Promise<SlotRange[]> {
  const sockets = await readFile('/proc/net/unix', 'utf8');
  const claims = sockets.matchAll(new RegExp(`@${prefix}/slots/(\\d+)-(\\d+)$`, 'gm'));
  return [...claims].map(([, first, last]) => ({ first: Number(first), last: Number(last) }));
}

function release(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
