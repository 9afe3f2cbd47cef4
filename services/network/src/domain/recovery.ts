// What to keep of a former life. A leased slot whose network is whole is left as it is: a guest may be
// running in it. Everything else of ours goes.
import type { SandboxId } from '@wrenn/kit/ids';

import type { Leases } from './lease-book.ts';
import { type Slot, type SlotRange, indexesOf, slotAt } from './slot.ts';

// What the kernel holds of the slots in the range.
export interface Survey {
  readonly present: ReadonlySet<number>; // Slots of which anything is there.
  readonly whole: ReadonlySet<number>; // Leased slots whose network is complete.
}

export interface Recovery {
  readonly adopted: ReadonlyMap<SandboxId, Slot>;
  readonly lost: readonly SandboxId[]; // Owners whose network is gone, as after a reboot.
  readonly stale: readonly Slot[]; // Remains to remove.
  readonly free: readonly number[];
}

export function planRecovery(range: SlotRange, leases: Leases, { present, whole }: Survey): Recovery {
  const adopted = new Map<SandboxId, Slot>();
  const lost: SandboxId[] = [];
  for (const [owner, index] of leases) {
    if (whole.has(index)) adopted.set(owner, slotAt(index));
    else lost.push(owner);
  }
  const kept = new Set([...adopted.values()].map((slot) => slot.index));
  return {
    adopted,
    lost,
    stale: [...present].filter((index) => !kept.has(index)).map(slotAt),
    free: indexesOf(range).filter((index) => !kept.has(index) && !present.has(index)),
  };
}
