import { within } from '@wrenn/kit/deadlines';
import { whileAlive } from '@wrenn/kit/while-alive';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

import type { ResolveSandbox } from '../domain/peers.ts';
import type { LanePeer } from './lane-peer.ts';

// Long enough for a busy scheduler, short enough to leave a call time to go on without it; then as long as a resume may
// take, which the scheduler says it is at.
const defaultLimits = { silentMs: 5000, wakeMs: 65_000 };

export function sandboxResolver(scheduler: LanePeer, { silentMs, wakeMs } = defaultLimits): ResolveSandbox {
  const client = scheduler.client(SchedulerService);
  return async (sandboxId, caller) => {
    const call = within(caller, wakeMs);
    const { hostAddress, hostBulkAddress } = await whileAlive('scheduler', silentMs, caller.signal, (alive) =>
      client.resolveSandbox({ sandboxId }, { ...call, ...alive }),
    );
    return { interactive: hostAddress, bulk: hostBulkAddress };
  };
}

// Which host has a sandbox, or had it, whatever state it is in.
export function hostLocator(scheduler: LanePeer): ResolveSandbox {
  const client = scheduler.client(SchedulerService);
  return async (sandboxId, caller) => {
    const call = within(caller, defaultLimits.silentMs);
    const { hostAddress, hostBulkAddress } = await client.resolveSandbox({ sandboxId, anyState: true }, call);
    return { interactive: hostAddress, bulk: hostBulkAddress };
  };
}
