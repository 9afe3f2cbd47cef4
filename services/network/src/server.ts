import type { MessageInitShape } from '@bufbuild/protobuf';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireSandboxId } from '@wrenn/kit/validate';
import type { NetworkService, SlotSchema } from '@wrenn/proto/wrenn/network/v1/network';

import { type Slot, type SlotRange, guest, indexesOf, tap } from './domain/slot.ts';
import type { SlotLeases } from './domain/slot-leases.ts';
import type { SlotStock } from './domain/slot-stock.ts';

export interface NetworkRoutes {
  readonly range: SlotRange;
  readonly leases: SlotLeases;
  readonly stock: SlotStock;
}

export function networkHandlers({ range, leases, stock }: NetworkRoutes): RpcHandlers<typeof NetworkService.method> {
  return {
    leaseSlot: async ({ owner }) => ({ slot: slotMessage(await leases.lease(requireSandboxId(owner, 'owner'))) }),
    releaseSlot: async ({ owner }) => {
      await leases.release(requireSandboxId(owner, 'owner'));
      return {};
    },
    listSlots: async () => ({
      leases: [...leases.list()].map(([owner, slot]) => ({ owner, slot: slotMessage(slot) })),
      readyCount: stock.readyCount,
      capacity: indexesOf(range).length,
    }),
  };
}

function slotMessage(slot: Slot): MessageInitShape<typeof SlotSchema> {
  return {
    index: slot.index,
    namespace: slot.namespace,
    tap: tap.name,
    guestMac: guest.mac,
    guestAddress: slot.guestAddress,
    vmmUid: slot.vmmUid,
  };
}
