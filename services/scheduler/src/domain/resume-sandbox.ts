// Resumes a paused sandbox on the host that has its snapshot. All who ask meanwhile share one resume, which
// goes on when they leave. When it fails nothing of it is left on the host, and the sandbox is paused as before.
import type { Clock } from '@wrenn/kit/clock';
import { type CallDeadline, inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { StageTimer } from '@wrenn/kit/stage-timer';

import type { Host } from './host.ts';
import { destroyedMeanwhile, requireFound, requireRunning, stateConflict } from './lookup.ts';
import type { Operation, Operations } from './operations.ts';
import type { LifecycleResult } from './pause-sandbox.ts';
import type { Bell, HostVms, SandboxStore } from './ports.ts';
import type { Sandbox } from './sandbox.ts';
import { SharedWork } from './shared-work.ts';
import type { Settings } from './snapshot.ts';
import type { LifecycleStore } from './snapshot-ports.ts';
import { untilChanged } from './until-changed.ts';

export interface ResumeSandboxParts {
  readonly sandboxes: SandboxStore;
  readonly lifecycle: LifecycleStore;
  readonly vms: HostVms;
  readonly bell: Bell;
  readonly operations: Operations;
  readonly clock: Clock;
  readonly log: Log;
}

export interface ResumeTerms {
  readonly reason: 'REQUESTED' | 'AUTO_RESUMED';
  // Undefined: its own.
  readonly ttlMs: number | undefined;
}

export const resumeLimitMs = 60_000;
const undoLimitMs = 60_000;

export class ResumeSandbox {
  readonly #parts: ResumeSandboxParts;
  readonly #resumes = new SharedWork<LifecycleResult | undefined>();
  readonly #closing = new AbortController();

  constructor(parts: ResumeSandboxParts) {
    this.#parts = parts;
  }

  async run(id: SandboxId, terms: ResumeTerms, caller: CallDeadline): Promise<LifecycleResult> {
    const { sandboxes, operations } = this.#parts;
    for (;;) {
      const seen = requireFound(await sandboxes.find(id), id);
      if (seen.state === 'running') return this.#running(seen, terms);
      if (seen.state === 'pausing') throw stateConflict(seen);
      if (seen.state === 'resuming' && !this.#resumes.has(id)) {
        // Of an earlier life, or a host that does not answer: the reconciler settles it.
        if (!operations.owns(id)) await untilChanged(this.#parts, seen, caller.signal);
        else (await operations.turn(id, caller.signal)).end();
        continue;
      }
      if (seen.state !== 'paused' && seen.state !== 'resuming') requireRunning(seen, id);
      const farewell = 'the caller left; the sandbox is being resumed';
      const resumed = await this.#resumes.run(id, () => this.#inTurn(seen, terms), caller.signal, farewell);
      if (resumed) return resumed;
    }
  }

  // Gives up resumes in progress; the next life finds out what became of them.
  close(): void {
    this.#closing.abort(new WrennError('SERVICE_UNAVAILABLE', 'the scheduler is stopping'));
  }

  async #running(seen: Sandbox, { ttlMs }: ResumeTerms): Promise<LifecycleResult> {
    const extended = ttlMs === undefined ? undefined : await this.#parts.sandboxes.extend(seen.id, ttlMs);
    return { sandbox: extended ?? seen, timings: [] };
  }

  // Undefined when it was not as it was seen any more.
  async #inTurn(seen: Sandbox, terms: ResumeTerms): Promise<LifecycleResult | undefined> {
    const { operations, lifecycle } = this.#parts;
    const timer = new StageTimer();
    const operation = await operations.turn(seen.id, this.#closing.signal);
    try {
      const settings = await lifecycle.settings(seen.id);
      const admitted = await timer.time('place', () => lifecycle.admitResume(seen, terms.reason));
      if (!admitted) return undefined;
      await failpoint('scheduler.resume.claimed');
      const sandbox = await this.#make(admitted, settings, terms, operation, timer);
      return { sandbox, timings: timer.stages };
    } finally {
      operation.end();
    }
  }

  async #make(
    { sandbox: resuming, host }: { readonly sandbox: Sandbox; readonly host: Host },
    settings: Settings,
    { ttlMs = resuming.ttlMs }: ResumeTerms,
    operation: Operation,
    timer: StageTimer,
  ): Promise<Sandbox> {
    const { sandboxes, vms, clock } = this.#parts;
    const { snapshotId } = resuming;
    if (snapshotId === undefined) throw new Error(`${resuming.id} stands on no snapshot`);
    let isMade = false;
    try {
      const signal = AbortSignal.any([operation.signal, this.#closing.signal]);
      const template = { name: resuming.template, image: '', defaultUser: settings.defaultUser };
      const vm = { ...resuming, ...settings, template, snapshot: { id: snapshotId } };
      const create = () => vms.create(host.address, vm, inMs(resumeLimitMs, signal));
      const { guestAddress } = await timer.include(create);
      isMade = true;
      await failpoint('scheduler.resume.made');
      const expiresAt = new Date(clock.now().getTime() + ttlMs);
      const running = { to: 'running', reason: 'AGENT_READY', guestAddress, ttlMs, expiresAt } as const;
      const sandbox = await timer.time('record', () => sandboxes.move(resuming, running));
      if (!sandbox) throw destroyedMeanwhile(resuming.id);
      await failpoint('scheduler.resume.recorded');
      return sandbox;
    } catch (error) {
      if (operation.signal.aborted) throw destroyedMeanwhile(resuming.id);
      if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
      // It runs, and may be recorded to: undoing that would lose it. The reconciler finds out.
      if (isMade && hasReason(error, 'DATABASE_UNAVAILABLE')) throw error;
      await this.#undo(resuming, host, error);
      throw error;
    }
  }

  // First the host, then the record: a paused sandbox holds nothing but its snapshot.
  async #undo(resuming: Sandbox, host: Host, cause: unknown): Promise<void> {
    const { sandboxes, vms, log } = this.#parts;
    const reason = cause instanceof WrennError ? cause.reason : 'INTERNAL';
    log.warn({ sandbox: resuming.id, host: host.id, reason, err: cause }, 'resume failed');
    try {
      await vms.destroy(host.address, resuming.id, inMs(undoLimitMs, this.#closing.signal));
      await sandboxes.move(resuming, { to: 'paused', reason });
    } catch (error) {
      log.warn({ err: error, sandbox: resuming.id }, 'undoing a resume is left to the reconciler');
    }
  }
}
