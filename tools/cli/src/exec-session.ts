// One command in a sandbox, with its streams joined to local ones. Nothing is read from the mesh faster
// than the local side takes it, and no byte is decoded on the way.
import type { Writable } from 'node:stream';

import { inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import type { MeshClient } from './client.ts';

export interface CommandSpec {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: string;
}

export interface ExecStreams {
  readonly stdin: AsyncIterable<Uint8Array> | undefined; // Undefined: the command reads end of file at once.
  readonly stdout: Writable;
  readonly stderr: Writable;
}

export interface ExecResult {
  readonly exitCode: number;
  readonly isTimedOut: boolean;
}

const inputChunkBytes = 256 * 1024;
const inputLimitMs = 24 * 3_600_000; // A command may leave its input unread for as long as it likes.
const signals = { kill: 9, pipe: 13 } as const;

export class ExecSession {
  readonly #client: MeshClient;
  readonly #sandboxId: string;
  readonly #isOver = new AbortController();
  #pid: number | undefined;
  readonly #earlySignals: number[] = [];

  constructor(client: MeshClient, sandboxId: string) {
    this.#client = client;
    this.#sandboxId = sandboxId;
  }

  async run(spec: CommandSpec, streams: ExecStreams, timeoutMs?: number): Promise<ExecResult> {
    const { env, command, cwd, user } = spec;
    const process = { command, args: [...spec.args], env: { ...env }, cwd, user };
    const hasStdin = streams.stdin !== undefined;
    const request = { sandboxId: this.#sandboxId, process, hasStdin };
    let isTimedOut = false;
    let timer: NodeJS.Timeout | undefined;
    try {
      for await (const { event } of this.#client.processes.start(request, { signal: this.#isOver.signal })) {
        switch (event?.event.case) {
          case 'started':
            this.#pid = event.event.value.pid;
            for (const signal of this.#earlySignals) await this.signal(signal);
            if (timeoutMs !== undefined) {
              timer = setTimeout(() => {
                isTimedOut = true;
                this.signal(signals.kill).catch(() => this.#isOver.abort()); // Out of reach: at least stop waiting.
              }, timeoutMs);
            }
            if (streams.stdin) this.#pump(streams.stdin).catch((error: unknown) => this.#isOver.abort(error));
            break;
          case 'stdout':
            await this.#deliver(streams.stdout, event.event.value);
            break;
          case 'stderr':
            await this.#deliver(streams.stderr, event.event.value);
            break;
          case 'exited':
            return { exitCode: event.event.value.exitCode, isTimedOut };
        }
      }
    } catch (error) {
      throw this.#isOver.signal.aborted && this.#isOver.signal.reason instanceof WrennError
        ? this.#isOver.signal.reason
        : error;
    } finally {
      clearTimeout(timer);
      this.#isOver.abort();
    }
    throw new WrennError(
      'AGENT_MISBEHAVED',
      'the stream ended before the command did; whether it still runs is unknown',
    );
  }

  // Signals the command's whole process group; before it has started, as soon as it has.
  async signal(signal: number): Promise<void> {
    if (this.#pid === undefined) {
      this.#earlySignals.push(signal);
      return;
    }
    try {
      await this.#client.processes.signal({ ...this.#target(), signal }, inMs(10_000));
    } catch (error) {
      // It ended meanwhile: there is nothing left to signal.
      if (!hasReason(error, 'PROCESS_NOT_FOUND')) throw error;
    }
  }

  async #pump(input: AsyncIterable<Uint8Array>): Promise<void> {
    const { signal } = this.#isOver;
    try {
      for await (const chunk of input) {
        for (let at = 0; at < chunk.length; at += inputChunkBytes) {
          const data = chunk.subarray(at, at + inputChunkBytes);
          await this.#client.processes.sendInput({ ...this.#target(), data }, inMs(inputLimitMs, signal));
        }
      }
      await this.#client.processes.closeStdin(this.#target(), inMs(30_000, signal));
    } catch (error) {
      // The command closed its input or ended, which is its right; what it returns tells the rest.
      if (!signal.aborted && !hasReason(error, 'STDIN_CLOSED', 'PROCESS_NOT_FOUND')) throw error;
    }
  }

  async #deliver(stream: Writable, bytes: Uint8Array): Promise<void> {
    const failure = await new Promise<Error | null | undefined>((resolve) => stream.write(bytes, resolve));
    // Nobody reads any more, as in `wrenn exec … | head`: the command learns it as it would locally.
    if (failure) await this.signal(signals.pipe);
  }

  #target() {
    return { sandboxId: this.#sandboxId, process: { selector: { case: 'pid', value: this.#pid ?? 0 } as const } };
  }
}
