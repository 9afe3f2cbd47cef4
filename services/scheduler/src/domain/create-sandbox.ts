// Creates a sandbox: place, have its host make it, record that it runs. Whatever fails, and whoever
// leaves, nothing stays behind on the host, and the record says why.
import type { Clock } from '@wrenn/kit/clock';
import { type CallDeadline, isOutOfTime, within } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import { type SandboxId, newSandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { inSpan, inThisContext } from '@wrenn/kit/telemetry/span';

import type { CreateKey } from './create-key.ts';
import type { CreateQueue } from './create-queue.ts';
import type { CreateSpec } from './create-request.ts';
import type { Host } from './host.ts';
import type { Operations } from './operations.ts';
import type { Bell, HostVms, Placed, SandboxStore, StageTiming } from './ports.ts';
import { isLive } from './sandbox-state.ts';
import type { Sandbox } from './sandbox.ts';
import { undoCreate } from './undo-create.ts';

export interface CreateSandboxParts {
  readonly sandboxes: SandboxStore;
  readonly vms: HostVms;
  readonly queue: CreateQueue;
  readonly bell: Bell;
  readonly operations: Operations;
  readonly clock: Clock;
  readonly log: Log;
}

export interface CreatedSandbox {
  readonly sandbox: Sandbox;
  readonly timings: readonly StageTiming[];
}

export interface CreateTerms {
  readonly key: CreateKey | undefined;
  readonly queueTimeoutMs: number;
  // Called once there is a record of it.
  readonly onPlaced?: () => void;
}

export const createLimitMs = 120_000;

export class CreateSandbox {
  readonly #parts: CreateSandboxParts;

  constructor(parts: CreateSandboxParts) {
    this.#parts = parts;
  }

  async run(spec: CreateSpec, terms: CreateTerms, caller: CallDeadline): Promise<CreatedSandbox> {
    const { operations } = this.#parts;
    const startMs = performance.now();
    for (;;) {
      const id = newSandboxId();
      const operation = operations.begin(id);
      try {
        const { placed, timings } = await this.#place(id, spec, terms, caller, startMs);
        if (placed.kind === 'known') {
          const known = await this.#settled(placed.sandbox, caller);
          if (known) return { sandbox: known, timings };
          continue;
        }
        terms.onPlaced?.();
        await failpoint('scheduler.create.placed');
        const madeAfterMs = performance.now() - startMs;
        const made = await this.#make(placed.sandbox, placed.host, spec, caller, operation.signal);
        await failpoint('scheduler.create.recorded');
        const later = made.timings.map((each) => ({ ...each, startedAfterMs: each.startedAfterMs + madeAfterMs }));
        return { sandbox: made.sandbox, timings: [...timings, ...later] };
      } finally {
        operation.end();
      }
    }
  }

  async #place(id: SandboxId, spec: CreateSpec, terms: CreateTerms, caller: CallDeadline, startMs: number) {
    // What is there already needs no room, so it stands in no queue.
    const known = terms.key && (await this.#parts.sandboxes.findByKey(terms.key));
    if (known) return { placed: { kind: 'known', sandbox: known } as const, timings: [] };
    let placeMs = startMs;
    const place = () => {
      placeMs = performance.now();
      return inSpan('place', {}, () => this.#parts.sandboxes.place(id, spec, terms.key));
    };
    const turn = { project: spec.project, queueTimeoutMs: terms.queueTimeoutMs, caller };
    // Whoever passes on the turn calls it.
    const placed: Placed = await inSpan('queue', {}, () => this.#parts.queue.run(turn, inThisContext(place)));
    const queuedMs = placeMs - startMs;
    const timings: StageTiming[] = [
      { stage: 'queue', startedAfterMs: 0, durationMs: queuedMs },
      { stage: 'place', startedAfterMs: queuedMs, durationMs: performance.now() - placeMs },
    ];
    return { placed, timings };
  }

  // Waits until a sandbox that another life, or another call, makes runs or is over; undefined when it is
  // over without ever having run.
  async #settled(sandbox: Sandbox, caller: CallDeadline): Promise<Sandbox | undefined> {
    const { sandboxes, bell } = this.#parts;
    const subscription = bell.subscribe(sandbox.id);
    try {
      for (;;) {
        const now = await sandboxes.find(sandbox.id);
        if (now && now.guestAddress !== '') return now;
        if (!now || !isLive(now.state)) return undefined;
        await subscription.rung(caller.signal);
        if (caller.signal.aborted) throw hasLeft(caller, caller.signal.reason);
      }
    } finally {
      subscription.close();
    }
  }

  async #make(sandbox: Sandbox, host: Host, spec: CreateSpec, caller: CallDeadline, interrupted: AbortSignal) {
    const { sandboxes, vms, clock } = this.#parts;
    const signal = AbortSignal.any([caller.signal, interrupted]);
    try {
      const call = within({ signal, deadlineAtMs: caller.deadlineAtMs }, createLimitMs);
      const vm = await vms.create(host.address, { ...spec, id: sandbox.id, access: sandbox.access }, call);
      signal.throwIfAborted();
      await failpoint('scheduler.create.made');
      const running = await sandboxes.move(sandbox, {
        to: 'running',
        reason: 'AGENT_READY',
        guestAddress: vm.guestAddress,
        // Its time begins when it can be used.
        expiresAt: new Date(clock.now().getTime() + spec.ttlMs),
      });
      if (!running) throw wasDestroyed();
      return { sandbox: running, timings: vm.timings };
    } catch (error) {
      const cause = interrupted.aborted ? wasDestroyed() : caller.signal.aborted ? hasLeft(caller, error) : error;
      await undoCreate(this.#parts, sandbox, host, cause);
      throw cause;
    }
  }
}

function wasDestroyed(): WrennError {
  return new WrennError('STATE_CONFLICT', 'the sandbox was destroyed while it was being created');
}

export function hasLeft(caller: CallDeadline, cause: unknown): WrennError {
  return isOutOfTime(caller)
    ? new WrennError('DEADLINE_EXCEEDED', 'the sandbox was not ready within the deadline', { cause })
    : new WrennError('CANCELLED', 'the caller left before the sandbox was ready', { cause });
}
