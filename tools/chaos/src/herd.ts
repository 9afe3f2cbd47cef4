// Sandboxes that are paused, resumed and forked, and what each must still hold afterwards: files in memory and on
// disk by their sha256, every token that was ever written to both, and a process that counts and never goes back.
import { setTimeout as sleep } from 'node:timers/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { type Reason, hasReason, messageOf } from '@wrenn/kit/errors';
import { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { type Sandbox, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

import type { Calls } from './calls.ts';
import type { History } from './history.ts';

export interface Member {
  readonly guest: Guest;
  readonly sums: Map<string, string>;
  readonly tokens: string[];
  count: number;
  // Its QEMU or pager was hit while that was all there was of it: it may be in error now.
  mayBeLost: boolean;
}

// What a call may end with while a part of the mesh, or the VM itself, is killed: it can be asked for again.
const passing: readonly Reason[] = [
  'STATE_CONFLICT',
  'VMM_START_FAILED',
  'GUEST_NOT_READY',
  'SANDBOX_PAUSED',
  'CANCELLED',
  'NO_SLOT_LEFT',
];
const limitMs = 90_000;
// A busy machine may take this long to read the large file through a pager.
const lookLimitMs = 60_000;
const blobBytes = 2 ** 20;
// Enough for the next restore to take its memory through a pager.
const churnBytes = 36 * 2 ** 20;
const churnPath = '/dev/shm/churn';

export class Herd {
  readonly #mesh: TestMesh;
  readonly #calls: Calls;
  readonly #history: History;
  readonly #run: string;
  readonly #members = new Map<string, Member>();
  #requestCount = 0;
  #tokenCount = 0;

  constructor(mesh: TestMesh, calls: Calls, history: History, seed: number) {
    this.#mesh = mesh;
    this.#calls = calls;
    this.#history = history;
    this.#run = `pauses-${seed}`;
  }

  get members(): readonly Member[] {
    return [...this.#members.values()];
  }

  has(id: string): boolean {
    return this.#members.has(id);
  }

  async create(): Promise<void> {
    const requestId = this.#nextRequest();
    const { sandbox } = await this.#calls.untilDone(`create ${requestId}`, limitMs, (deadlineAtMs) =>
      this.#mesh.client.sandboxes.create({ template: 'minimal', requestId }, { deadlineAtMs }),
    );
    const guest = new Guest(this.#mesh, sandbox?.id ?? '');
    const counter = '(while true; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done) >/dev/null 2>&1 &';
    const blobs = ['/dev/shm/blob', '/root/blob'];
    const write = blobs.map((path) => `head -c ${blobBytes} /dev/urandom > ${path}`).join('; ');
    const said = await this.#calls.untilDone(`prepare ${guest.id}`, limitMs, () =>
      guest.sh(`${counter} ${write}; sync; sha256sum ${blobs.join(' ')}`),
    );
    this.#members.set(guest.id, { guest, sums: sumsOf(said), tokens: [], count: 0, mayBeLost: false });
    this.#history.note(`created ${guest.id}`);
  }

  pause({ guest: { id } }: Member, waitDurable: boolean): Promise<unknown> {
    const call = (deadlineAtMs: number) =>
      this.#mesh.client.sandboxes.pause({ sandboxId: id, waitDurable }, { deadlineAtMs });
    return this.#calls.untilDone(`pause ${id}`, limitMs, call, passing);
  }

  resume({ guest: { id } }: Member): Promise<unknown> {
    const call = (deadlineAtMs: number) => this.#mesh.client.sandboxes.resume({ sandboxId: id }, { deadlineAtMs });
    return this.#calls.untilDone(`resume ${id}`, limitMs, call, passing);
  }

  // Each child must hold what its source held; then it goes.
  async fork(source: Member, count: number): Promise<void> {
    const { id } = source.guest;
    const requestId = this.#nextRequest();
    const { sandboxes } = await this.#calls.untilDone(
      `fork ${id}`,
      limitMs,
      (deadlineAtMs) => this.#mesh.client.sandboxes.fork({ sandboxId: id, count, requestId }, { deadlineAtMs }),
      passing,
    );
    if (sandboxes.length !== count) this.#history.breach(`fork ${id} made ${sandboxes.length} of ${count}`);
    await this.#tryOut(source, sandboxes);
  }

  // A named snapshot, one sandbox made from it, and both gone again.
  async snapshot(source: Member): Promise<void> {
    const { id } = source.guest;
    const name = this.#nextRequest();
    const { snapshots, sandboxes } = this.#mesh.client;
    const take = (deadlineAtMs: number) => snapshots.create({ sandboxId: id, name, requestId: name }, { deadlineAtMs });
    await this.#calls.untilDone(`snapshot ${name} of ${id}`, limitMs, take, passing);
    const make = (deadlineAtMs: number) =>
      sandboxes.create({ template: name, requestId: `${name}-child` }, { deadlineAtMs });
    const { sandbox } = await this.#calls.untilDone(`create from ${name}`, limitMs, make, passing);
    await this.#tryOut(source, sandbox ? [sandbox] : []);
    const remove = (deadlineAtMs: number) => snapshots.delete({ name }, { deadlineAtMs });
    await this.#calls.untilDone(`delete ${name}`, limitMs, remove, ['SNAPSHOT_IN_USE']).catch((error: unknown) => {
      // An earlier try of this call did it.
      if (!hasReason(error, 'SNAPSHOT_NOT_FOUND')) throw error;
    });
  }

  // Writes as much as makes the next restore go through a pager.
  async churn(member: Member): Promise<void> {
    member.sums.delete(churnPath);
    const write = `dd if=/dev/urandom of=${churnPath} bs=1M count=${churnBytes / 2 ** 20} conv=notrunc 2>/dev/null`;
    const said = await this.#calls.untilDone(`write in ${member.guest.id}`, limitMs, () =>
      member.guest.sh(`${write}; sha256sum ${churnPath}`),
    );
    for (const [file, sum] of sumsOf(said)) member.sums.set(file, sum);
  }

  // Leaves one more thing that must be found again.
  async mark({ guest, tokens }: Member): Promise<void> {
    const token = `t${++this.#tokenCount}`;
    const write = `echo ${token} >> /dev/shm/tokens; echo ${token} >> /root/tokens`;
    await this.#calls.untilDone(`mark in ${guest.id}`, limitMs, () => guest.sh(write));
    tokens.push(token);
  }

  // All but what takes long to read. Throws when it cannot be asked.
  check(member: Member): Promise<void> {
    return this.#check(
      member,
      [...member.sums.keys()].filter((path) => path !== churnPath),
    );
  }

  async #check(member: Member, files: readonly string[]): Promise<void> {
    const { guest } = member;
    const seen = await this.#calls.untilDone(`check ${guest.id}`, limitMs, () => look(guest, files));
    member.count = this.#compare(guest.id, member, files, seen);
  }

  // One that runs again by itself, or that somebody must resume; false when it is rightly gone.
  async bringBack(member: Member): Promise<boolean> {
    const { guest } = member;
    const { state, errorReason, errorMessage } = await guest.get();
    if (state === SandboxState.ERROR) {
      this.#members.delete(guest.id);
      const why = `${errorReason} ${errorMessage}`;
      if (member.mayBeLost) this.#history.note(`${guest.id} is gone as it was to be expected: ${why}`);
      else this.#history.breach(`${guest.id} is lost: ${why}`);
      return false;
    }
    if (state === SandboxState.PAUSED) await this.resume(member);
    await this.#check(member, [...member.sums.keys()]);
    const { count } = member;
    for (let look = 0; member.count === count; look++) {
      if (look === 20) throw new Error(`${guest.id}: its counter stands still at ${count}`);
      await sleep(100);
      await this.#check(member, []);
    }
    member.mayBeLost = false;
    return true;
  }

  async destroy(id: string): Promise<void> {
    const call = (deadlineAtMs: number) => this.#mesh.client.sandboxes.destroy({ sandboxId: id }, { deadlineAtMs });
    await this.#calls.untilDone(`destroy ${id}`, limitMs, call, passing);
    this.#members.delete(id);
  }

  // What lives though nobody of the run knows it: children whose fork was given up.
  async evictStrangers(): Promise<void> {
    const strangers: string[] = [];
    for await (const { id } of this.#mesh.client.list()) if (!this.#members.has(id)) strangers.push(id);
    for (const id of strangers) {
      this.#history.note(`${id} is nobody's: it is destroyed`);
      await this.destroy(id);
    }
    const { snapshots } = await this.#mesh.client.snapshots.list({}, inMs(10_000));
    for (const { name } of snapshots) await this.#mesh.client.snapshots.delete({ name }, inMs(30_000));
  }

  async #tryOut(source: Member, children: readonly Sandbox[]): Promise<void> {
    for (const { id } of children) {
      const guest = new Guest(this.#mesh, id);
      try {
        const files = [...source.sums.keys()];
        this.#compare(id, source, files, await this.#calls.untilDone(`check ${id}`, limitMs, () => look(guest, files)));
      } catch (error) {
        this.#history.note(`child ${id} of ${source.guest.id}: ${messageOf(error)}`);
      }
    }
    for (const { id } of children) await this.destroy(id);
  }

  #compare(id: string, { sums, tokens, count }: Member, files: readonly string[], seen: Seen): number {
    const breach = (what: string) => this.#history.breach(`${id} ${what}`);
    for (const [path, sum] of sums) {
      if (!files.includes(path)) continue;
      if (seen.sums.get(path) !== sum) breach(`holds ${path} with ${seen.sums.get(path)}, not ${sum}`);
    }
    for (const where of ['memory', 'disk'] as const) {
      const lost = tokens.filter((token) => !seen.tokens[where].has(token));
      if (lost.length > 0) breach(`has forgotten ${lost.join(' ')} on ${where}`);
    }
    if (seen.count < count) breach(`counts ${seen.count} after ${count}`);
    return Math.max(seen.count, count);
  }

  #nextRequest(): string {
    return `${this.#run}-${++this.#requestCount}`;
  }
}

interface Seen {
  readonly sums: ReadonlyMap<string, string>;
  readonly tokens: { readonly memory: ReadonlySet<string>; readonly disk: ReadonlySet<string> };
  readonly count: number;
}

async function look(guest: Guest, files: readonly string[]): Promise<Seen> {
  // The counter's file is empty for a moment at each step.
  const count = 'n=; while [ -z "$n" ]; do n=$(cat /dev/shm/n); done; echo $n';
  const tokens = ['/dev/shm/tokens', '/root/tokens'].map((path) => `echo ---; cat ${path} 2>/dev/null`).join('; ');
  const said = await guest.sh(`sha256sum ${[...files, '/dev/null'].join(' ')}; ${tokens}; echo ---; ${count}`, {
    timeoutMs: lookLimitMs,
  });
  const [sums = '', memory = '', disk = '', n = ''] = said.split('---\n');
  const words = (text: string) => new Set(text.trim().split('\n'));
  return { sums: sumsOf(sums), tokens: { memory: words(memory), disk: words(disk) }, count: Number(n) };
}

function sumsOf(said: string): Map<string, string> {
  const lines = said.trim().split('\n');
  return new Map(lines.map((line) => [line.split(/\s+/)[1] ?? '', line.split(/\s+/)[0] ?? '']));
}
