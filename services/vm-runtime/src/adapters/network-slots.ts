import { type OutboundCall, inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';
import type { Lanes, RpcClient } from '@wrenn/kit/lanes';
import { NetworkService } from '@wrenn/proto/wrenn/network/v1/network';

import type { Slot, Slots } from '../domain/vm.ts';

const releaseLimitMs = 30_000;
const listLimitMs = 5000;

export class NetworkSlots implements Slots {
  readonly #network: RpcClient<typeof NetworkService.method>;

  constructor(lanes: Lanes) {
    this.#network = lanes.client('control', NetworkService);
  }

  async lease(owner: SandboxId, call: OutboundCall): Promise<Slot> {
    const { slot } = await this.#network.leaseSlot({ owner }, call);
    if (!slot) throw new WrennError('INTERNAL', 'the network service leased no slot');
    return slot;
  }

  async release(owner: SandboxId): Promise<void> {
    await this.#network.releaseSlot({ owner }, inMs(releaseLimitMs));
  }

  async owners(): Promise<SandboxId[]> {
    const { leases } = await this.#network.listSlots({}, inMs(listLimitMs));
    return leases.map((lease) => lease.owner).filter(isSandboxId);
  }

  async capacity(): Promise<number> {
    return (await this.#network.listSlots({}, inMs(listLimitMs))).capacity;
  }
}
