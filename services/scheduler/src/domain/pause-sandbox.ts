// Pauses a sandbox: record it, have its host freeze it, record what it stands on. All who ask meanwhile
// share one pause, which goes on when they leave. Whatever fails, the host is asked what is true.
import { type CallDeadline, inMs, within } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import { type SandboxId, newSnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { StageTimer } from '@wrenn/kit/stage-timer';
import { inSpan } from '@wrenn/kit/telemetry/span';

import type { Durability } from './durability.ts';
import type { LiveSnapshot } from './live-snapshot.ts';
import { destroyedMeanwhile, requireFound, requireRunning, stateConflict } from './lookup.ts';
import type { Operation, Operations } from './operations.ts';
import type { Bell, HostStore, HostVms, SandboxStore, StageTiming } from './ports.ts';
import { requireHost } from './require-host.ts';
import type { Sandbox } from './sandbox.ts';
import { type SettleSandbox, standOn } from './settle-sandbox.ts';
import { SharedWork } from './shared-work.ts';
import type { LifecycleStore } from './snapshot-ports.ts';
import { isUnsure } from './unsure.ts';
import { untilChanged } from './until-changed.ts';

export interface PauseSandboxParts {
  readonly sandboxes: SandboxStore;
  readonly lifecycle: LifecycleStore;
  readonly hosts: HostStore;
  readonly vms: HostVms;
  readonly bell: Bell;
  readonly operations: Operations;
  readonly live: LiveSnapshot;
  readonly settler: SettleSandbox;
  readonly durability: Durability;
  readonly log: Log;
}

export interface LifecycleResult {
  readonly sandbox: Sandbox;
  readonly timings: readonly StageTiming[];
}

export const pauseLimitMs = 60_000;
const listLimitMs = 2000;

export class PauseSandbox {
  readonly #parts: PauseSandboxParts;
  readonly #pauses = new SharedWork<LifecycleResult | undefined>();
  readonly #closing = new AbortController();

  constructor(parts: PauseSandboxParts) {
    this.#parts = parts;
  }

  async run(id: SandboxId, wanted: { readonly isDurable: boolean }, caller: CallDeadline): Promise<LifecycleResult> {
    const { sandboxes, hosts, durability } = this.#parts;
    const paused = await this.#untilPaused(id, caller);
    const { snapshotId, isDurable, hostId } = paused.sandbox;
    if (!wanted.isDurable || isDurable || snapshotId === undefined) return paused;
    await durability.wait((await requireHost(hosts, hostId)).address, snapshotId, within(caller, Infinity));
    return { sandbox: requireFound(await sandboxes.find(id), id), timings: paused.timings };
  }

  // Pauses one just as it was seen; otherwise nothing happens.
  async expire(seen: Sandbox): Promise<void> {
    if (this.#parts.operations.owns(seen.id)) return;
    await this.#pauses.join(seen.id, () => this.#inTurn(seen, 'TTL_EXPIRED'));
  }

  // Gives up pauses in progress; the next life finds out what became of them.
  close(): void {
    this.#closing.abort(new WrennError('SERVICE_UNAVAILABLE', 'the scheduler is stopping'));
  }

  async #untilPaused(id: SandboxId, caller: CallDeadline): Promise<LifecycleResult> {
    const { sandboxes, operations } = this.#parts;
    for (;;) {
      const seen = requireFound(await sandboxes.find(id), id);
      if (seen.state === 'paused') return { sandbox: seen, timings: [] };
      if (seen.state === 'resuming') throw stateConflict(seen);
      if (seen.state === 'pausing' && !this.#pauses.has(id)) {
        // Of an earlier life, or a host that does not answer: the reconciler settles it.
        if (!operations.owns(id)) await untilChanged(this.#parts, seen, caller.signal);
        else (await operations.turn(id, caller.signal)).end();
        continue;
      }
      if (seen.state !== 'pausing') requireRunning(seen, id);
      const farewell = 'the caller left; the sandbox is being paused';
      const begin = () => this.#inTurn(seen, 'REQUESTED');
      const paused = await this.#pauses.run(id, begin, caller.signal, farewell);
      if (paused) return paused;
    }
  }

  // Undefined when it was not as it was seen any more.
  async #inTurn(seen: Sandbox, reason: string): Promise<LifecycleResult | undefined> {
    const { operations, live } = this.#parts;
    const operation = await operations.turn(seen.id, this.#closing.signal);
    try {
      const isSettled = seen.nextSnapshotId === undefined || (await live.settle(seen, 'pause', operation));
      return isSettled ? await this.#pause(seen, reason, operation) : undefined;
    } finally {
      operation.end();
    }
  }

  async #pause(seen: Sandbox, reason: string, operation: Operation): Promise<LifecycleResult | undefined> {
    const { sandboxes, lifecycle, hosts, vms, durability } = this.#parts;
    const timer = new StageTimer();
    const host = await requireHost(hosts, seen.hostId);
    // One that an earlier try may still freeze it into.
    const snapshotId = seen.nextSnapshotId ?? newSnapshotId();
    const pausing = await timer.time('claim', () => lifecycle.beginPause(seen, snapshotId, reason));
    if (!pausing) return undefined;
    await failpoint('scheduler.pause.claimed');
    const signal = AbortSignal.any([operation.signal, this.#closing.signal]);
    try {
      const freezing = { sandboxId: seen.id, snapshotId, keepRunning: false };
      const frozen = await timer.include(() => vms.freeze(host.address, freezing, inMs(pauseLimitMs, signal)));
      await failpoint('scheduler.pause.frozen');
      const snapshot = standOn(pausing, snapshotId, frozen.isDurable);
      const move = { to: 'paused', reason: 'FROZEN', snapshot, nextSnapshotId: null } as const;
      const sandbox = await timer.time('record', () => sandboxes.move(pausing, move));
      if (!sandbox) throw destroyedMeanwhile(seen.id);
      await failpoint('scheduler.pause.recorded');
      if (!frozen.isDurable) await inSpan('follow', {}, async () => durability.follow(host.address, snapshotId));
      return { sandbox, timings: timer.stages };
    } catch (error) {
      if (operation.signal.aborted) throw destroyedMeanwhile(seen.id);
      if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
      return await this.#settled(pausing, host.id, error);
    }
  }

  // What became of a pause that failed, or whose answer was lost.
  async #settled(pausing: Sandbox, hostId: string, cause: unknown): Promise<LifecycleResult> {
    const { sandboxes, hosts, vms, settler, log } = this.#parts;
    const reason = cause instanceof WrennError ? cause.reason : 'INTERNAL';
    log.warn({ sandbox: pausing.id, host: hostId, reason, err: cause }, 'pause failed');
    try {
      const host = await requireHost(hosts, hostId);
      const found = await vms.list(host.address, inMs(listLimitMs));
      const vm = found.find(({ sandboxId }) => sandboxId === pausing.id);
      // A host that says why it failed is done with it.
      const isSure = !isUnsure(cause);
      if (isSure && vm?.state === 'running') {
        await sandboxes.move(pausing, { to: 'running', reason, nextSnapshotId: null });
      } else if ((await settler.settle(pausing, { host, vm, isSecondLook: false }, reason)) === 'paused') {
        return { sandbox: requireFound(await sandboxes.find(pausing.id), pausing.id), timings: [] };
      }
    } catch (error) {
      log.warn({ err: error, sandbox: pausing.id }, 'a failed pause is left to the reconciler');
    }
    throw cause;
  }
}
