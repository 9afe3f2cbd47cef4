// The written form of the leases: which sandbox holds which slot. A book that is not wholly understood is
// refused, never guessed at: a wrong guess would tear the network from under a running guest.
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';
import { z } from 'zod';

import { type SlotRange, isWithin } from './slot.ts';

export type Leases = ReadonlyMap<SandboxId, number>;

const bookSchema = z.strictObject({
  version: z.literal(1),
  leases: z.array(z.strictObject({ owner: z.string(), slot: z.int() })),
});

export function writeBook(leases: Leases): string {
  const rows = [...leases].map(([owner, slot]) => ({ owner, slot }));
  return `${JSON.stringify({ version: 1, leases: rows }, null, 1)}\n`;
}

export function readBook(text: string, range: SlotRange): Map<SandboxId, number> {
  const { leases: rows } = bookSchema.parse(JSON.parse(text));
  const leases = new Map<SandboxId, number>();
  const taken = new Set<number>();
  for (const { owner, slot } of rows) {
    if (!isSandboxId(owner)) throw new Error(`${JSON.stringify(owner)} is no sandbox id`);
    if (leases.has(owner)) throw new Error(`${owner} is listed twice`);
    if (taken.has(slot)) throw new Error(`slot ${slot} is listed twice`);
    if (!isWithin(range, slot)) {
      throw new Error(`${owner} holds slot ${slot}, outside of this service's ${range.first} to ${range.last}`);
    }
    leases.set(owner, slot);
    taken.add(slot);
  }
  return leases;
}
