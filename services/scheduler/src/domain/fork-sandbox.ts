// Forks a sandbox: children that go on from the instant in which it is frozen, or was when it was paused.
// They are placed before it is frozen, so one that has no room for them is not held up; they begin to run in
// one step, all or none.
import type { Clock } from '@wrenn/kit/clock';
import { type CallDeadline, within } from '@wrenn/kit/deadlines';
import { failpoint } from '@wrenn/kit/failpoint';
import { type SandboxId, newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { StageTimer } from '@wrenn/kit/stage-timer';

import { createLimitMs, hasLeft } from './create-sandbox.ts';
import { type ForkSpec, forkKeyOf, withAdded } from './fork-request.ts';
import type { Host } from './host.ts';
import type { LiveSnapshot } from './live-snapshot.ts';
import { destroyedMeanwhile, requireFound, requireRunning, stateConflict } from './lookup.ts';
import type { OnceTerms } from './once.ts';
import type { Operations } from './operations.ts';
import type { Bell, HostVms, SandboxStore, StageTiming } from './ports.ts';
import type { Sandbox } from './sandbox.ts';
import { isLive } from './sandbox-state.ts';
import { sideBySide } from './side-by-side.ts';
import type { LifecycleStore, RunningChild } from './snapshot-ports.ts';
import type { Settings } from './snapshot.ts';
import { undoCreate } from './undo-create.ts';

export interface ForkSandboxParts {
  readonly sandboxes: SandboxStore;
  readonly lifecycle: LifecycleStore;
  readonly live: LiveSnapshot;
  readonly vms: HostVms;
  readonly bell: Bell;
  readonly operations: Operations;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Forked {
  readonly sandboxes: readonly Sandbox[];
  readonly timings: readonly StageTiming[];
}

interface Placed {
  readonly children: readonly Sandbox[];
  readonly host: Host;
  readonly settings: Settings;
}

const atOnce = 8;

export class ForkSandbox {
  readonly #parts: ForkSandboxParts;

  constructor(parts: ForkSandboxParts) {
    this.#parts = parts;
  }

  async run(spec: ForkSpec, { caller, onPlaced }: OnceTerms): Promise<Forked> {
    const { operations } = this.#parts;
    const timer = new StageTimer();
    for (;;) {
      const childIds = Array.from({ length: spec.count }, () => newSandboxId());
      const mine = childIds.map((id) => operations.begin(id));
      const interrupted = AbortSignal.any(mine.map(({ signal }) => signal));
      try {
        const placed = await this.#place(spec, childIds, { caller, onPlaced }, interrupted, timer);
        if (placed === undefined) continue;
        if ('known' in placed) return { sandboxes: placed.known, timings: [] };
        return await this.#make(placed, caller, interrupted, timer);
      } finally {
        for (const operation of mine) operation.end();
      }
    }
  }

  // Records the children, and has the source frozen if it runs. Undefined when it has to be tried anew.
  async #place(
    spec: ForkSpec,
    childIds: readonly SandboxId[],
    terms: OnceTerms,
    interrupted: AbortSignal,
    timer: StageTimer,
  ): Promise<Placed | { readonly known: readonly Sandbox[] } | undefined> {
    const { sandboxes, lifecycle, live, operations } = this.#parts;
    const first = requireFound(await sandboxes.find(spec.sandboxId), spec.sandboxId);
    const key = forkKeyOf(spec, first.project);
    const known = key && (await sandboxes.findByKey(key));
    if (known) return this.#settled(known, terms.caller);
    if (first.state === 'pausing' || first.state === 'resuming') throw stateConflict(first);
    if (first.state !== 'paused') requireRunning(first, first.id);
    const isRunning = first.state === 'running';
    const operation = isRunning ? await operations.turn(first.id, terms.caller.signal) : undefined;
    try {
      const source = operation ? requireFound(await sandboxes.find(first.id), first.id) : first;
      if (source.state !== first.state) return undefined;
      if (operation && !(await live.settle(source, 'snapshot', operation))) return undefined;
      const snapshotId = isRunning ? newSnapshotId() : source.snapshotId;
      if (snapshotId === undefined) throw new Error(`${source.id} is paused and stands on no snapshot`);
      const settings = withAdded(await lifecycle.settings(source.id), spec.env);
      const fork = { source, snapshotId, childIds, spec, settings, key };
      const placed = await timer.time('place', () => lifecycle.placeFork(fork));
      if (!placed) return undefined;
      if (placed.kind === 'known') return await this.#settled(placed.first, terms.caller);
      terms.onPlaced();
      await failpoint('scheduler.fork.placed');
      if (!operation) return { ...placed, settings };
      try {
        await timer.include(() => live.take(source, snapshotId, operation));
        return { ...placed, settings };
      } catch (error) {
        await this.#undo(placed.children, placed.host, interrupted.aborted ? interrupted.reason : error);
        throw error;
      }
    } finally {
      operation?.end();
    }
  }

  async #make(
    { children, host, settings }: Placed,
    caller: CallDeadline,
    interrupted: AbortSignal,
    timer: StageTimer,
  ): Promise<Forked> {
    const { lifecycle, vms, clock } = this.#parts;
    const failed = new AbortController();
    const signal = AbortSignal.any([caller.signal, interrupted, failed.signal]);
    try {
      const restore = async (child: Sandbox): Promise<RunningChild> => {
        try {
          signal.throwIfAborted();
          const { snapshotId } = child;
          if (snapshotId === undefined) throw new Error(`${child.id} stands on no snapshot`);
          const template = { name: child.template, image: '', defaultUser: settings.defaultUser };
          const vm = { ...child, template, env: settings.env, snapshot: { id: snapshotId } };
          const call = within({ signal, deadlineAtMs: caller.deadlineAtMs }, createLimitMs);
          const { guestAddress } = await vms.create(host.address, vm, call);
          return { seen: child, guestAddress };
        } catch (error) {
          // The others would be made for nothing.
          failed.abort();
          throw error;
        }
      };
      const made = await timer.time('restore', () => sideBySide(children, atOnce, restore));
      await failpoint('scheduler.fork.made');
      caller.signal.throwIfAborted();
      const expiresAt = new Date(clock.now().getTime() + (children[0]?.ttlMs ?? 0));
      const sandboxes = await lifecycle.runAll(made, expiresAt);
      if (!sandboxes) throw destroyedMeanwhile(children.map(({ id }) => id).join(', '));
      return { sandboxes, timings: timer.stages };
    } catch (error) {
      const cause = interrupted.aborted ? interrupted.reason : caller.signal.aborted ? hasLeft(caller, error) : error;
      await this.#undo(children, host, cause);
      throw cause;
    }
  }

  async #undo(children: readonly Sandbox[], host: Host, cause: unknown): Promise<void> {
    await sideBySide(children, atOnce, (child) => undoCreate(this.#parts, child, host, cause));
  }

  // Waits until the children of an earlier call run; undefined when nothing came of it.
  async #settled(first: Sandbox, caller: CallDeadline): Promise<{ readonly known: readonly Sandbox[] } | undefined> {
    const { sandboxes, lifecycle, bell } = this.#parts;
    const subscription = bell.subscribe(first.id);
    try {
      for (;;) {
        const now = await sandboxes.find(first.id);
        if (now && now.guestAddress !== '') return { known: await lifecycle.forkOf(first.id) };
        if (!now || !isLive(now.state)) return undefined;
        await subscription.rung(caller.signal);
        if (caller.signal.aborted) throw hasLeft(caller, caller.signal.reason);
      }
    } finally {
      subscription.close();
    }
  }
}
