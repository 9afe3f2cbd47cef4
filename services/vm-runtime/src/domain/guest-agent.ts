// The guest's agent as vm-runtime uses it. What it answers comes from inside the guest: untrusted.
import type { OutboundCall } from '@wrenn/kit/deadlines';

import type { GuestFiles } from './guest-files.ts';

export interface GuestIdentity {
  readonly sandboxId: string;
  readonly template: string;
  readonly env: Readonly<Record<string, string>>;
  readonly defaultUser: string;
}

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: string;
}

export type Selector = { readonly pid: number } | { readonly tag: string };

// Character cells, 1 to 65535.
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export type ProcessEvent =
  | { readonly kind: 'started'; readonly pid: number }
  | { readonly kind: 'stdout' | 'stderr' | 'terminal'; readonly sequence: bigint; readonly data: Uint8Array }
  // What a terminal shows, all output up to that sequence included.
  | {
      readonly kind: 'screen';
      readonly sequence: bigint;
      readonly size: TerminalSize;
      readonly contents: Uint8Array;
    }
  | { readonly kind: 'exited'; readonly sequence: bigint; readonly exitCode: number; readonly signal: number };

export interface PortChange {
  readonly kind: 'opened' | 'closed';
  readonly port: number;
  readonly isLoopbackOnly: boolean;
}

export interface RunningProcess {
  readonly pid: number;
  readonly tag: string;
  readonly command: Command;
  readonly isTerminal: boolean;
}

export interface StartOptions {
  readonly tag?: string;
  readonly hasStdin: boolean;
  readonly terminal?: TerminalSize; // Instead of stdin, stdout and stderr.
}

export type CloseReason = 'VMM_DIED' | 'SANDBOX_PAUSED';

// Every method needs a deadline or a signal; streams end with their signal. Errors: AGENT_UNREACHABLE,
// AGENT_MISBEHAVED and those that wrenn.v1.ProcessService documents.
export interface GuestAgent {
  // Resolves once the agent accepts connections; polls until the signal aborts.
  awaitListening(signal: AbortSignal): Promise<void>;
  init(identity: GuestIdentity, call: OutboundCall): Promise<void>;
  // Resolves once no file is on its way in or out, or, with how many still are, when the limit is over.
  drain(limitMs: number, call: OutboundCall): Promise<number>;
  // Every process of the guest stands still when it resolves, until the next init.
  quiesce(call: OutboundCall): Promise<void>;
  // `started` first, `exited` last. Leaving the stream leaves the process running.
  start(command: Command, options: StartOptions, signal: AbortSignal): AsyncIterable<ProcessEvent>;
  // Replays what came behind `afterSequence` first; undefined: from now on.
  connect(selector: Selector, afterSequence: bigint | undefined, signal: AbortSignal): AsyncIterable<ProcessEvent>;
  // As connect, to a terminal: where it has no sequence to go on from, `screen` comes behind `started`.
  view(selector: Selector, afterSequence: bigint | undefined, signal: AbortSignal): AsyncIterable<ProcessEvent>;
  // Takes each piece once the terminal has taken those before it, nearly; resolves when it has taken all.
  sendKeys(selector: Selector, keys: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
  resize(selector: Selector, size: TerminalSize, call: OutboundCall): Promise<void>;
  // To what runs in its terminal's foreground.
  signalForeground(selector: Selector, signal: number, call: OutboundCall): Promise<void>;
  sendInput(selector: Selector, data: Uint8Array, call: OutboundCall): Promise<void>;
  closeStdin(selector: Selector, call: OutboundCall): Promise<void>;
  signal(selector: Selector, signal: number, call: OutboundCall): Promise<void>;
  list(call: OutboundCall): Promise<RunningProcess[]>;
  readonly files: GuestFiles;
  // One `opened` for each port that is served already, then changes.
  watchPorts(signal: AbortSignal): AsyncIterable<PortChange>;
  // Whether it gives any sign of life; never rejects.
  isAnswering(limitMs: number): Promise<boolean>;
  // What still runs fails with the reason.
  close(why: CloseReason): void;
}
