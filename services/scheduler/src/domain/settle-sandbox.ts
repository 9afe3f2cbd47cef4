// Asks the host of a sandbox what became of it, and records that. Whoever calls has its operation, so
// nobody else changes it meanwhile.
import type { Clock } from '@wrenn/kit/clock';
import { type OutboundCall, inMs } from '@wrenn/kit/deadlines';
import { hasReason } from '@wrenn/kit/errors';
import type { SnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import { deathReasonOf } from './differences.ts';
import type { Durability } from './durability.ts';
import type { Host } from './host.ts';
import type { HostSnapshots, HostVm, HostVms, SandboxStore, SnapshotStand } from './ports.ts';
import type { Sandbox } from './sandbox.ts';
import { type Evidence, type UnsettledState, type Verdict, verdictOn } from './settlement.ts';
import type { SnapshotStore } from './snapshot-ports.ts';

export interface SettleSandboxParts {
  readonly sandboxes: SandboxStore;
  readonly snapshots: SnapshotStore;
  readonly hostSnapshots: HostSnapshots;
  readonly vms: HostVms;
  readonly durability: Durability;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Look {
  readonly host: Host;
  readonly vm: HostVm | undefined;
  readonly isSecondLook: boolean;
}

const askLimitMs = 5000;
const removeLimitMs = 60_000;
// Longer than any call to a host that pauses, resumes or freezes.
const oldMs = 130_000;

// Sandboxes that somebody must look after, because nobody saw the end of what was done to them.
export function isUnsettled({ state, nextSnapshotId }: Sandbox): boolean {
  return state === 'pausing' || state === 'resuming' || (state === 'running' && nextSnapshotId !== undefined);
}

// What a sandbox stands on when it is frozen into `id`: until that is durable, also on the last that was.
export function standOn(seen: Sandbox, id: SnapshotId, isDurable: boolean): SnapshotStand {
  const previousId = seen.isDurable ? seen.snapshotId : seen.previousSnapshotId;
  return { id, isDurable, previousId: isDurable ? undefined : previousId };
}

export class SettleSandbox {
  readonly #parts: SettleSandboxParts;

  constructor(parts: SettleSandboxParts) {
    this.#parts = parts;
  }

  // Records what became of it, and says what that was.
  async settle(sandbox: Sandbox, { host, vm, isSecondLook }: Look, reason: string): Promise<Verdict> {
    const { snapshots, clock, log } = this.#parts;
    const nextId = sandbox.nextSnapshotId;
    const next = nextId === undefined ? undefined : await snapshots.find(nextId);
    const hasNext = nextId !== undefined && (await this.#isThere(host, nextId));
    const sinceMs = Math.max(sandbox.stateChangedAt.getTime(), next?.createdAt.getTime() ?? 0);
    const evidence: Evidence = {
      vm: vm === undefined ? 'none' : vmOf(vm),
      hasNext,
      keepsRunning: next?.keepsRunning ?? false,
      isSecondLook,
      isOld: clock.now().getTime() - sinceMs > oldMs,
    };
    const verdict = verdictOn(sandbox.state as UnsettledState, evidence);
    if (verdict !== 'wait' && verdict !== 'none') {
      log.info({ sandbox: sandbox.id, host: host.id, ...evidence, verdict }, 'settled');
    }
    await this.#carryOut(verdict, sandbox, { host, vm }, reason);
    return verdict;
  }

  async #carryOut(verdict: Verdict, sandbox: Sandbox, { host, vm }: Omit<Look, 'isSecondLook'>, reason: string) {
    const { sandboxes, snapshots, vms, durability, clock } = this.#parts;
    const { id, state, nextSnapshotId } = sandbox;
    switch (verdict) {
      case 'paused': {
        if (nextSnapshotId === undefined) return;
        if (vm) await vms.destroy(host.address, id, inMs(removeLimitMs));
        const pausing = state === 'running' ? await sandboxes.move(sandbox, { to: 'pausing', reason }) : sandbox;
        if (!pausing) return;
        const snapshot = standOn(pausing, nextSnapshotId, false);
        const paused = await sandboxes.move(pausing, { to: 'paused', reason, snapshot, nextSnapshotId: null });
        if (paused) durability.follow(host.address, nextSnapshotId);
        return;
      }
      case 'running': {
        const guestAddress = vm?.guestAddress || sandbox.guestAddress;
        const expiresAt = new Date(clock.now().getTime() + sandbox.ttlMs);
        const isResumed = state === 'resuming';
        // A pause that was asked for may still happen, so what it would freeze into is not forgotten.
        await sandboxes.move(sandbox, { to: 'running', reason, guestAddress, ...(isResumed && { expiresAt }) });
        return;
      }
      case 'thawed':
        if (vm) await vms.destroy(host.address, id, inMs(removeLimitMs));
        await sandboxes.move(sandbox, { to: 'paused', reason });
        return;
      case 'adopt':
        if (nextSnapshotId === undefined) return;
        if (await snapshots.adopt(id, nextSnapshotId, false)) durability.follow(host.address, nextSnapshotId);
        return;
      case 'abandon':
        if (nextSnapshotId !== undefined) await snapshots.abandon(id, nextSnapshotId);
        return;
      case 'lost': {
        const message = vm?.deathMessage || `host ${host.id} has neither its VM nor its snapshot`;
        const lost = vm ? deathReasonOf(vm) : 'VMM_LOST';
        await sandboxes.move(sandbox, { to: 'error', reason: lost, message: message.slice(0, 1000) });
        return;
      }
      case 'wait':
      case 'none':
    }
  }

  async #isThere(host: Host, id: SnapshotId): Promise<boolean> {
    try {
      await this.#parts.hostSnapshots.get(host.address, id, { isDurable: false }, this.#ask());
      return true;
    } catch (error) {
      if (hasReason(error, 'SNAPSHOT_NOT_FOUND')) return false;
      throw error;
    }
  }

  #ask(): OutboundCall {
    return inMs(askLimitMs);
  }
}

function vmOf({ state }: HostVm): Evidence['vm'] {
  if (state === 'running' || state === 'dead') return state;
  return 'changing';
}
