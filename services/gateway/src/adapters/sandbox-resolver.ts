import { within } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

import type { ResolveSandbox } from '../domain/peers.ts';
import type { LanePeer } from './lane-peer.ts';

// Long enough for a busy scheduler, short enough to leave a call time to go on without it.
const defaultLimitMs = 5000;

export function sandboxResolver(scheduler: LanePeer, limitMs = defaultLimitMs): ResolveSandbox {
  const client = scheduler.client(SchedulerService);
  return async (sandboxId, caller) => {
    try {
      const { hostAddress, hostBulkAddress } = await client.resolveSandbox({ sandboxId }, within(caller, limitMs));
      return { interactive: hostAddress, bulk: hostBulkAddress };
    } catch (error) {
      if (!hasReason(error, 'DEADLINE_EXCEEDED') || Date.now() >= caller.deadlineAtMs) throw error;
      throw new WrennError('SERVICE_UNAVAILABLE', 'scheduler did not answer in time', { cause: error });
    }
  };
}
