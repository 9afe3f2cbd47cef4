// Creates a sandbox: place, have its host make it, record that it runs. Whatever fails, and whoever
// leaves, nothing stays behind on the host, and the record says why.
import type { Clock } from '@wrenn/kit/clock';
import { type CallDeadline, inMs, within } from '@wrenn/kit/deadlines';
import { WrennError, messageOf } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import type { CreateSpec } from './create-request.ts';
import type { Host } from './host.ts';
import type { Operations } from './operations.ts';
import type { HostVms, SandboxStore, StageTiming } from './ports.ts';
import type { Sandbox } from './sandbox.ts';

export interface CreateSandboxParts {
  readonly sandboxes: SandboxStore;
  readonly vms: HostVms;
  readonly operations: Operations;
  readonly clock: Clock;
  readonly log: Log;
}

export interface CreatedSandbox {
  readonly sandbox: Sandbox;
  readonly timings: readonly StageTiming[];
}

export const createLimitMs = 120_000;
const undoLimitMs = 60_000;

export class CreateSandbox {
  readonly #parts: CreateSandboxParts;

  constructor(parts: CreateSandboxParts) {
    this.#parts = parts;
  }

  async run(spec: CreateSpec, caller: CallDeadline): Promise<CreatedSandbox> {
    const { sandboxes, operations } = this.#parts;
    const id = newSandboxId();
    const startMs = performance.now();
    const operation = operations.begin(id);
    try {
      const { sandbox, host } = await sandboxes.place(id, spec);
      const placeMs = performance.now() - startMs;
      const made = await this.#make(sandbox, host, spec, caller, operation.signal);
      return {
        sandbox: made.sandbox,
        timings: [
          { stage: 'place', startedAfterMs: 0, durationMs: placeMs },
          ...made.timings.map((timing) => ({ ...timing, startedAfterMs: timing.startedAfterMs + placeMs })),
        ],
      };
    } finally {
      operation.end();
    }
  }

  async #make(sandbox: Sandbox, host: Host, spec: CreateSpec, caller: CallDeadline, interrupted: AbortSignal) {
    const { sandboxes, vms, clock } = this.#parts;
    const signal = AbortSignal.any([caller.signal, interrupted]);
    try {
      const call = within({ signal, deadlineAtMs: caller.deadlineAtMs }, createLimitMs);
      const vm = await vms.create(host.address, { ...spec, id: sandbox.id }, call);
      signal.throwIfAborted();
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
      await this.#undo(sandbox, host, cause);
      throw cause;
    }
  }

  async #undo(sandbox: Sandbox, host: Host, cause: unknown): Promise<void> {
    const { sandboxes, vms, log } = this.#parts;
    const reason = cause instanceof WrennError ? cause.reason : 'INTERNAL';
    log.warn({ sandbox: sandbox.id, host: host.id, reason, err: cause }, 'create failed');
    // First the host, then the record: a sandbox in error holds nothing. What fails here, the
    // reconciler takes up.
    try {
      await vms.destroy(host.address, sandbox.id, inMs(undoLimitMs));
    } catch (error) {
      log.warn({ err: error, sandbox: sandbox.id, host: host.id }, 'undoing a create is left to the reconciler');
    }
    try {
      await sandboxes.move(sandbox, { to: 'error', reason, message: messageOf(cause).slice(0, 1000) });
    } catch (error) {
      log.warn({ err: error, sandbox: sandbox.id }, 'recording a failed create is left to the reconciler');
    }
  }
}

function wasDestroyed(): WrennError {
  return new WrennError('STATE_CONFLICT', 'the sandbox was destroyed while it was being created');
}

function hasLeft(caller: CallDeadline, cause: unknown): WrennError {
  return Date.now() >= caller.deadlineAtMs
    ? new WrennError('DEADLINE_EXCEEDED', 'the sandbox was not ready within the deadline', { cause })
    : new WrennError('CANCELLED', 'the caller left before the sandbox was ready', { cause });
}
