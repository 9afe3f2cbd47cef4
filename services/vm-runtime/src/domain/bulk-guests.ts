// The guests whose files the bulk thread serves, as the main thread tells it.
import { setImmediate } from 'node:timers/promises';

import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import type { LogLevel } from '@wrenn/kit/log';
import type { Family } from '@wrenn/kit/metrics/family';

import type { CountedBytes } from './counted-bytes.ts';
import type { CloseReason } from './guest-agent.ts';
import type { ServedFiles } from './guest-files.ts';

export interface BulkSettings {
  readonly listen: string;
  readonly logLevel: LogLevel;
  readonly env: NodeJS.ProcessEnv; // For OpenTelemetry's standard variables.
}

// From the main thread.
export type BulkMessage =
  | { readonly kind: 'add'; readonly sandboxId: SandboxId; readonly guestAddress: string; readonly accessToken: string }
  | { readonly kind: 'remove'; readonly sandboxId: SandboxId; readonly why: CloseReason }
  | { readonly kind: 'drain'; readonly sandboxId: SandboxId; readonly limitMs: number }
  | { readonly kind: 'log level'; readonly logLevel: LogLevel }
  | { readonly kind: 'count' }
  | { readonly kind: 'stop' };

type GuestMessage = Extract<BulkMessage, { kind: 'add' | 'remove' }>;

// To the main thread: once, and whenever it has asked it to count or to drain.
export interface BulkListening {
  readonly port: number;
}
export interface BulkCounted {
  readonly families: readonly Family[];
}

export interface BulkDrained {
  readonly drained: SandboxId;
  readonly left: number;
}

export interface BulkGuest extends ServedFiles {
  readonly bytes: CountedBytes;
  // Cuts its transfers.
  close(why: CloseReason): void;
}

export class BulkGuests {
  readonly #dial: (guestAddress: string, accessToken: string) => BulkGuest;
  readonly #guests = new Map<SandboxId, BulkGuest>();

  constructor(dial: (guestAddress: string, accessToken: string) => BulkGuest) {
    this.#dial = dial;
  }

  take(message: GuestMessage): void {
    this.#guests.get(message.sandboxId)?.close(message.kind === 'remove' ? message.why : 'VMM_DIED');
    this.#guests.delete(message.sandboxId);
    if (message.kind === 'add') {
      this.#guests.set(message.sandboxId, this.#dial(message.guestAddress, message.accessToken));
    }
  }

  // How many transfers are left after the limit; none where nobody is known.
  async drain(sandboxId: SandboxId, limitMs: number): Promise<number> {
    return (await this.#guests.get(sandboxId)?.bytes.drain(limitMs)) ?? 0;
  }

  // Errors: SANDBOX_NOT_FOUND.
  async guest(sandboxId: SandboxId): Promise<BulkGuest> {
    // The main thread told of it before anybody could ask: one turn later that has arrived.
    if (!this.#guests.has(sandboxId)) await setImmediate();
    const guest = this.#guests.get(sandboxId);
    if (!guest) throw new WrennError('SANDBOX_NOT_FOUND', `no sandbox ${sandboxId} runs on this host`);
    return guest;
  }

  close(): void {
    for (const guest of this.#guests.values()) guest.close('VMM_DIED');
    this.#guests.clear();
  }
}
