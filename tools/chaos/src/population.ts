// The sandboxes that the run has made, and what must be true of each: a model to hold the mesh against.
import { inMs } from '@wrenn/kit/deadlines';
import { hasReason, messageOf } from '@wrenn/kit/errors';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { Guest } from '@wrenn/e2e/guest';
import { type Sandbox, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { everyState } from '@wrenn/cli/client';

import type { Calls } from './calls.ts';
import type { History } from './history.ts';

export interface Resident {
  readonly guest: Guest;
  // A value that only this sandbox holds, in its memory file system.
  readonly secret: string;
  // Its VMM or guest was hit: it must be found out.
  isDoomed: boolean;
  isLeaving: boolean;
}

export class Population {
  readonly #mesh: TestMesh;
  readonly #calls: Calls;
  readonly #history: History;
  readonly #run: string;
  readonly #residents = new Map<string, Resident>();
  #requestCount = 0;

  constructor(mesh: TestMesh, calls: Calls, history: History, seed: number) {
    this.#mesh = mesh;
    this.#calls = calls;
    this.#history = history;
    this.#run = `chaos-${seed}`;
  }

  get settled(): readonly Resident[] {
    return [...this.#residents.values()].filter(({ isLeaving, isDoomed }) => !isLeaving && !isDoomed);
  }

  get size(): number {
    return this.#residents.size;
  }

  // By request_id, so that however often it is tried there is one sandbox of it or none.
  async create(): Promise<void> {
    const requestId = `${this.#run}-${++this.#requestCount}`;
    const request = { template: 'minimal', requestId, metadata: { request: requestId } };
    try {
      const { sandbox } = await this.#calls.untilDone(`create ${requestId}`, 90_000, (deadlineAtMs) =>
        this.#mesh.client.sandboxes.create(request, { deadlineAtMs }),
      );
      if (sandbox?.state !== SandboxState.RUNNING) {
        this.#history.note(`create ${requestId}: it was over again when it came: ${sandbox?.errorReason ?? ''}`);
        return;
      }
      const guest = new Guest(this.#mesh, sandbox.id);
      const resident = { guest, secret: requestId, isDoomed: false, isLeaving: false };
      this.#residents.set(sandbox.id, resident);
      this.#history.note(`created ${requestId}: ${sandbox.id}`);
      const write = `echo ${requestId} > /tmp/secret`;
      await this.#calls.untilDone(`write ${requestId}`, 30_000, () => guest.sh(write));
    } catch (error) {
      this.#history.note(`create ${requestId} failed: ${messageOf(error)}`);
    }
  }

  // Reads back what only this sandbox can know. It may fail while parts are down, but never be wrong.
  async check(resident: Resident): Promise<void> {
    const { guest, secret } = resident;
    try {
      const seen = await this.#calls.once(`exec in ${guest.id}`, 20_000, () =>
        guest.sh('cat /tmp/secret', { timeoutMs: 5000 }),
      );
      if (seen !== secret) this.#history.breach(`${guest.id} holds ${JSON.stringify(seen)}, not ${secret}`);
    } catch (error) {
      this.#history.note(`exec in ${guest.id} failed: ${messageOf(error)}`);
    }
  }

  async destroy(resident: Resident): Promise<void> {
    resident.isLeaving = true;
    const { id } = resident.guest;
    try {
      await this.#calls.untilDone(`destroy ${id}`, 60_000, (deadlineAtMs) =>
        this.#mesh.client.sandboxes.destroy({ sandboxId: id }, { deadlineAtMs }),
      );
      this.#residents.delete(id);
      this.#history.note(`destroyed ${id}`);
    } catch (error) {
      this.#history.note(`destroy ${id} failed: ${messageOf(error)}`);
    }
  }

  doom(resident: Resident): void {
    resident.isDoomed = true;
  }

  // Why the mesh is not yet as it must be; nothing if it is. Drops what is rightly gone.
  async disagreements(vmmsOnHost: ReadonlySet<string>): Promise<string[]> {
    const all = new Map<string, Sandbox>();
    for await (const sandbox of this.#mesh.client.list(everyState)) all.set(sandbox.id, sandbox);
    const problems: string[] = [];
    const { RUNNING, DESTROYED, ERROR } = SandboxState;
    for (const [id, { state }] of all) {
      if (state !== RUNNING && state !== DESTROYED && state !== ERROR) problems.push(`${id} is in state ${state}`);
      if (state === RUNNING && !vmmsOnHost.has(id)) problems.push(`${id} runs by the record, and has no VMM`);
    }
    for (const id of vmmsOnHost) {
      if (all.get(id)?.state !== RUNNING) problems.push(`${id} has a VMM, and does not run by the record`);
    }
    for (const [id, { isDoomed, isLeaving }] of this.#residents) {
      const sandbox = all.get(id);
      if (sandbox?.state === RUNNING) {
        if (isDoomed) problems.push(`${id} was hit, and still runs by the record`);
        continue;
      }
      if (isDoomed || isLeaving) this.#residents.delete(id);
      else problems.push(`${id} is lost: ${sandbox?.errorReason || (sandbox?.state ?? 'no record')}`);
    }
    const byRequest = Object.groupBy(
      [...all.values()].filter(({ state }) => state === RUNNING),
      ({ metadata }) => metadata['request'] ?? '',
    );
    for (const [request, of = []] of Object.entries(byRequest)) {
      if (of.length > 1) problems.push(`${request} made ${of.length} sandboxes: ${of.map(({ id }) => id).join(', ')}`);
    }
    return problems;
  }

  // What runs though nobody of the run knows it: creates whose answer was lost for good. Destroyed.
  async evictStrangers(): Promise<void> {
    for await (const { id } of this.#mesh.client.list()) {
      if (this.#residents.has(id)) continue;
      this.#history.note(`${id} is nobody's: its create was given up`);
      try {
        await this.#mesh.client.sandboxes.destroy({ sandboxId: id }, inMs(30_000));
      } catch (error) {
        if (!hasReason(error, 'SERVICE_UNAVAILABLE', 'DATABASE_UNAVAILABLE')) throw error;
      }
    }
  }
}
