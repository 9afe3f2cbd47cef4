// QEMU's machine protocol over its unix socket: JSON lines, one answer per command, events in between.
// The other side is a process that a guest may have taken over: lines are bounded, answers checked.
import { type Socket, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { WrennError } from '@wrenn/kit/errors';
import { z } from 'zod';

const maxLineBytes = 1024 * 1024;
const replyLimitMs = 5000;
const lineShape = z.object({
  return: z.unknown().optional(),
  error: z.object({ class: z.string(), desc: z.string() }).optional(),
  id: z.number().optional(),
  event: z.string().optional(),
  data: z.record(z.string(), z.unknown()).optional(),
});

export type QmpEvent = { readonly name: string; readonly data: Readonly<Record<string, unknown>> };

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class Qmp {
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #onEvent: (event: QmpEvent) => void;
  #nextId = 1;
  #partial = '';

  private constructor(socket: Socket, onEvent: (event: QmpEvent) => void) {
    this.#socket = socket;
    this.#onEvent = onEvent;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    socket.on('error', () => socket.destroy());
    void this.closed.then(() => this.#failAll(ended()));
  }

  // Connects as soon as the socket accepts; polls as long as `isAlive` says and the signal lets it.
  static async connect(
    path: string,
    onEvent: (event: QmpEvent) => void,
    isAlive: () => boolean,
    signal: AbortSignal,
  ): Promise<Qmp> {
    // A restore waits for nothing else: short looks at first.
    for (let pauseMs = 2; ; pauseMs = Math.min(pauseMs + 0.1, 10)) {
      signal.throwIfAborted();
      if (!isAlive()) throw new Error('QEMU ended');
      const socket = await tryConnect(path);
      if (socket) {
        const qmp = new Qmp(socket, onEvent);
        try {
          await qmp.execute('qmp_capabilities');
          return qmp;
        } catch (error) {
          // QEMU speaks to one at a time: a connection that is given up must not keep the next one out.
          qmp.close();
          throw error;
        }
      }
      await sleep(pauseMs, undefined, { signal });
    }
  }

  // Errors: VMM_DIED and VMM_STUCK of a QEMU that ended, or did not answer in time; what QEMU answers is an untyped one.
  async execute(
    command: string,
    args: Readonly<Record<string, unknown>> = {},
    limitMs = replyLimitMs,
  ): Promise<unknown> {
    const id = this.#nextId++;
    const reply = Promise.withResolvers<unknown>();
    this.#waiting.set(id, reply);
    const silent = () => reply.reject(new WrennError('VMM_STUCK', `QEMU did not answer ${command} in time`));
    const timer = setTimeout(silent, limitMs);
    try {
      if (this.#socket.destroyed) throw ended();
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
      return await reply.promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(text: string): void {
    this.#partial += text;
    for (let end = this.#partial.indexOf('\n'); end >= 0; end = this.#partial.indexOf('\n')) {
      const line = this.#partial.slice(0, end);
      this.#partial = this.#partial.slice(end + 1);
      this.#handle(line);
    }
    if (this.#partial.length > maxLineBytes) this.#socket.destroy();
  }

  #handle(line: string): void {
    const message = parseLine(line);
    if (!message) return void this.#socket.destroy();
    if (message.event) this.#onEvent({ name: message.event, data: message.data ?? {} });
    const waiting = message.id === undefined ? undefined : this.#waiting.get(message.id);
    if (message.error) waiting?.reject(new Error(`QEMU: ${message.error.desc}`));
    else waiting?.resolve(message.return);
  }

  #failAll(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
  }
}

function ended(): WrennError {
  return new WrennError('VMM_DIED', 'QEMU ended: its QMP connection is closed');
}

function parseLine(line: string) {
  try {
    return lineShape.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

function tryConnect(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', () => resolve(undefined));
  });
}
