// A terminal in a sandbox, joined to a local one: as long as it runs, whatever becomes of the connection to it.
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import type { MessageInitShape } from '@bufbuild/protobuf';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import type { AttachStartSchema, ProcessEvent, ProcessServiceAttachRequestSchema } from '@wrenn/proto/wrenn/v1/process';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

import type { MeshClient } from '../client.ts';
import type { CommandSpec } from '../exec-session.ts';
import { DetachKeys } from './detach-keys.ts';
import type { LocalTerminal } from './local-terminal.ts';

export interface ShellOptions {
  readonly sandboxId: string;
  readonly tag: string;
  readonly spec: CommandSpec; // What runs in it, where it does not run yet.
  readonly detachKeys: readonly number[];
}

export type Ending =
  | { readonly kind: 'exited'; readonly exitCode: number }
  | { readonly kind: 'detached' } // It goes on without us.
  | { readonly kind: 'lost' }; // As before, but we had lost it and did not want to wait.

type Request = MessageInitShape<typeof ProcessServiceAttachRequestSchema>;
type Start = MessageInitShape<typeof AttachStartSchema>;

const interrupt = 3; // Ctrl-C, as the keyboard sends it.
const shortestWaitMs = 100;
const longestWaitMs = 2000;
const askMs = 10_000;

export class TerminalSession {
  readonly #client: MeshClient;
  readonly #local: LocalTerminal;
  readonly #options: ShellOptions;
  readonly #detach: DetachKeys;
  readonly #leave = new AbortController();
  #keys: PassThrough | undefined; // To the terminal, while there is a connection to it.
  #waiting = Buffer.alloc(0); // Typed while there was none.
  #isWanted = Promise.withResolvers<void>(); // A key was pressed while there was none.
  #seen: bigint | undefined;
  #pid: number | undefined;
  #isResizing = false;
  #said = ''; // Since it was lost.
  #hasGivenUp = false;

  constructor(client: MeshClient, local: LocalTerminal, options: ShellOptions) {
    this.#client = client;
    this.#local = local;
    this.#options = options;
    this.#detach = new DetachKeys(options.detachKeys);
  }

  // Ends with the terminal's process, with the detach keys, or with an error that no waiting mends.
  async run(): Promise<Ending> {
    const { signal } = this.#leave;
    let waitMs = shortestWaitMs;
    let isNew: boolean | undefined;
    for (;;) {
      const before = this.#seen;
      try {
        isNew ??= !(await this.#isRunning());
        const exitCode = await this.#attach(isNew ? this.#opening() : this.#returning());
        return { kind: 'exited', exitCode };
      } catch (error) {
        if (signal.aborted) return this.#left();
        // What is not kept any more is made up for by a picture.
        if (hasReason(error, 'REPLAY_GONE') && this.#seen !== undefined) {
          this.#seen = undefined;
          continue;
        }
        // One that was never seen is not waited for.
        if (this.#pid === undefined || !isLoss(error)) throw error;
        isNew = false;
        if (this.#seen !== before) waitMs = shortestWaitMs;
        await this.#awaitReturn(error, waitMs);
        if (signal.aborted) return this.#left();
        waitMs = Math.min(waitMs * 2, longestWaitMs);
      }
    }
  }

  // What was typed, to the terminal; the keys that detach, to nobody.
  type(typed: Uint8Array): void {
    if (!this.#keys && typed.includes(interrupt)) {
      this.#hasGivenUp = true;
      this.leave();
      return;
    }
    const { passed, isDetaching } = this.#detach.take(typed);
    if (!this.#keys) this.#waiting = Buffer.concat([this.#waiting, passed]);
    else if (passed.length > 0) this.#send({ part: { case: 'input', value: passed } });
    this.#isWanted.resolve();
    if (isDetaching) this.leave();
  }

  // Not in line with the keys, which a program need not read.
  async resize(): Promise<void> {
    if (this.#pid === undefined || this.#isResizing) return;
    this.#isResizing = true;
    try {
      let size;
      do {
        size = this.#local.size;
        await this.#client.processes.resize({ ...this.#target(), size }, inMs(askMs, this.#leave.signal));
      } while (size.columns !== this.#local.size.columns || size.rows !== this.#local.size.rows);
    } catch {
      // It has ended, or the connection has: who returns says its size.
    } finally {
      this.#isResizing = false;
    }
  }

  // The terminal goes on without us.
  leave(): void {
    this.#leave.abort();
  }

  #left(): Ending {
    return { kind: this.#hasGivenUp ? 'lost' : 'detached' };
  }

  async #attach(start: Start): Promise<number> {
    const keys = new PassThrough({ objectMode: true });
    keys.write({ part: { case: 'start', value: start } } satisfies Request);
    try {
      for await (const { event } of this.#client.processes.attach(keys, { signal: this.#leave.signal })) {
        if (event?.event.case === 'exited') return event.event.value.exitCode;
        if (event) await this.#take(event, keys);
      }
    } finally {
      this.#keys = undefined;
      keys.end();
      this.#local.resumeKeys();
    }
    throw new WrennError('AGENT_MISBEHAVED', 'the stream ended before the terminal did');
  }

  async #take({ event, sequence }: ProcessEvent, keys: PassThrough): Promise<void> {
    if (event.case === 'started') {
      this.#pid = event.value.pid;
      this.#said = '';
      this.#keys = keys;
      if (this.#waiting.length > 0) this.#send({ part: { case: 'input', value: this.#waiting } });
      this.#waiting = Buffer.alloc(0);
    } else if (event.case === 'screen') {
      this.#seen = sequence;
      await this.#local.show(event.value.contents);
    } else if (event.case === 'terminal') {
      await this.#local.show(event.value);
      this.#seen = sequence;
    }
  }

  #send(request: Request): void {
    const keys = this.#keys;
    if (!keys || keys.write(request)) return;
    this.#local.pauseKeys();
    keys.once('drain', () => this.#local.resumeKeys());
  }

  #opening(): Start {
    const { sandboxId, tag, spec } = this.#options;
    const process = { ...spec, args: [...spec.args], env: { ...spec.env } };
    return { sandboxId, size: this.#local.size, terminal: { case: 'newTerminal', value: { process, tag } } };
  }

  // Where a program has the whole screen, a picture of it repairs what our own lines did to it.
  #returning(): Start {
    const { sandboxId } = this.#options;
    const isContinued = this.#seen !== undefined && !this.#local.isFullScreen;
    return {
      sandboxId,
      size: this.#local.size,
      terminal: { case: 'existing', value: this.#target().process },
      ...(isContinued && { afterSequence: this.#seen }),
    };
  }

  async #isRunning(): Promise<boolean> {
    const { sandboxId, tag } = this.#options;
    const { processes } = await this.#client.processes.list({ sandboxId }, inMs(askMs, this.#leave.signal));
    return processes.some((process) => process.tag === tag);
  }

  async #awaitReturn(error: unknown, waitMs: number): Promise<void> {
    const { signal } = this.#leave;
    if (!hasReason(error, 'SANDBOX_PAUSED', 'SANDBOX_NOT_RUNNING')) {
      this.#sayOnce('connection lost; reconnecting, Ctrl-C gives up');
      await sleep(waitMs, undefined, { signal }).catch(() => undefined);
      return;
    }
    this.#sayOnce('the sandbox is paused; a key goes on once it may be resumed, Ctrl-C gives up');
    this.#isWanted = Promise.withResolvers();
    const enough = new AbortController();
    // Asking for its state resumes nothing, but attaching may.
    const resumed = this.#resumedByOthers(AbortSignal.any([signal, enough.signal]));
    await Promise.race([this.#isWanted.promise, resumed]);
    enough.abort();
    await sleep(waitMs, undefined, { signal }).catch(() => undefined);
  }

  #sayOnce(line: string): void {
    if (this.#said !== line) this.#local.say(line);
    this.#said = line;
  }

  async #resumedByOthers(signal: AbortSignal): Promise<void> {
    const { sandboxId } = this.#options;
    for (;;) {
      await sleep(longestWaitMs / 2, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        const { sandbox } = await this.#client.sandboxes.get({ sandboxId }, inMs(askMs, signal));
        if (sandbox && !resting.has(sandbox.state)) return;
      } catch (error) {
        if (!isLoss(error)) return;
      }
    }
  }

  #target() {
    const { sandboxId, tag } = this.#options;
    const selector =
      this.#pid === undefined ? { case: 'tag' as const, value: tag } : { case: 'pid' as const, value: this.#pid };
    return { sandboxId, process: { selector } };
  }
}

const resting: ReadonlySet<SandboxState> = new Set([SandboxState.PAUSING, SandboxState.PAUSED]);

// What time or a resume mends.
function isLoss(error: unknown): boolean {
  if (hasReason(error, 'SANDBOX_NOT_RUNNING')) return /^(pausing|paused|resuming)$/i.test(error.meta['state'] ?? '');
  return hasReason(
    error,
    'SANDBOX_PAUSED',
    'SERVICE_UNAVAILABLE',
    'DATABASE_UNAVAILABLE',
    'AGENT_UNREACHABLE',
    'CANCELLED',
    'DEADLINE_EXCEEDED',
  );
}
