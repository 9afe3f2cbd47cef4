// At most one service at a time for a state directory and for a slot. Abstract unix sockets carry the
// claim: the kernel lets go of them with the process, however it ends.
import { createHash } from 'node:crypto';
import { readFile, realpath } from 'node:fs/promises';
import { createServer } from 'node:net';

import { type Release, UndoStack } from '@wrenn/kit/undo-stack';

import type { SlotRange } from '../domain/slot.ts';

const prefix = 'wrenn-network';

export interface Claim {
  close(): Promise<void>;
}

export async function claimSlots(range: SlotRange, stateDir: string): Promise<Claim> {
  const directory = createHash('sha256').update(await realpath(stateDir));
  const held = new UndoStack();
  try {
    held.push(await hold(`dir/${directory.digest('hex').slice(0, 16)}`, `the state directory ${stateDir}`));
    held.push(await hold(`slots/${range.first}-${range.last}`, `the slots ${range.first} to ${range.last}`));
    refuseOverlap(range, await claimedRanges());
  } catch (error) {
    await held.undo();
    throw error;
  }
  return { close: () => held.undo() };
}

function hold(name: string, what: string): Promise<Release> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.on('error', (cause: NodeJS.ErrnoException) => {
      reject(cause.code === 'EADDRINUSE' ? new Error(`another network service uses ${what}`, { cause }) : cause);
    });
    server.listen(`\0${prefix}/${name}`, () => {
      resolve(() => new Promise((closed) => server.close(() => closed())));
    });
  });
}

// Every live claim on this host, our own among them. One that is made at the same time as ours sees us.
async function claimedRanges(): Promise<SlotRange[]> {
  const sockets = await readFile('/proc/net/unix', 'utf8');
  const claims = sockets.matchAll(new RegExp(`@${prefix}/slots/(\\d+)-(\\d+)$`, 'gm'));
  return [...claims].map(([, first, last]) => ({ first: Number(first), last: Number(last) }));
}

function refuseOverlap(range: SlotRange, claimed: readonly SlotRange[]): void {
  const others = claimed.filter(({ first, last }) => first !== range.first || last !== range.last);
  const taken = others.find(({ first, last }) => first <= range.last && last >= range.first);
  if (!taken) return;
  throw new Error(
    `slots ${range.first} to ${range.last} overlap with ${taken.first} to ${taken.last} of another network service: ` +
      'give each service on a host slots of its own (WRENN_FIRST_SLOT, WRENN_LAST_SLOT)',
  );
}
