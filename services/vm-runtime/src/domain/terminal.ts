// One caller at a terminal: keys go in while what it shows comes out.
import { inMs } from '@wrenn/kit/deadlines';
import { hasReason } from '@wrenn/kit/errors';

import type { Command, GuestAgent, ProcessEvent, Selector, TerminalSize } from './guest-agent.ts';

export type Opening =
  | { readonly kind: 'new'; readonly command: Command; readonly tag: string; readonly size: TerminalSize }
  | {
      readonly kind: 'existing';
      readonly selector: Selector;
      readonly size: TerminalSize | undefined; // Undefined: as it is.
      readonly afterSequence: bigint | undefined;
    };

export type Step =
  | { readonly kind: 'input'; readonly data: Uint8Array }
  | { readonly kind: 'resize'; readonly size: TerminalSize }
  | { readonly kind: 'signal'; readonly signal: number };

// A short answer from the agent to a short question.
const askLimitMs = 30_000;

// Ends with the process, or with its caller; the terminal stays. A step that fails ends it with that failure.
export async function* attach(
  agent: GuestAgent,
  opening: Opening,
  steps: AsyncIterable<Step>,
  caller: AbortSignal,
): AsyncGenerator<ProcessEvent, void, undefined> {
  const leave = new AbortController();
  const signal = AbortSignal.any([caller, leave.signal]);
  let failure: unknown;
  const fail = (error: unknown) => {
    failure ??= error;
    leave.abort();
  };
  try {
    for await (const event of await open(agent, opening, signal)) {
      if (event.kind === 'started') steer(agent, { pid: event.pid }, steps, signal).catch(fail);
      yield event;
    }
  } catch (error) {
    throw caller.aborted ? error : (failure ?? error);
  } finally {
    leave.abort();
  }
}

async function open(agent: GuestAgent, opening: Opening, signal: AbortSignal): Promise<AsyncIterable<ProcessEvent>> {
  if (opening.kind === 'new') {
    const { command, tag, size } = opening;
    return agent.start(command, { hasStdin: true, terminal: size, ...(tag !== '' && { tag }) }, signal);
  }
  const { selector, size, afterSequence } = opening;
  // Before it is looked at, so that what it shows is of this size.
  if (size) await orEnded(agent.resize(selector, size, inMs(askLimitMs, signal)));
  return agent.view(selector, afterSequence, signal);
}

async function steer(
  agent: GuestAgent,
  selector: Selector,
  steps: AsyncIterable<Step>,
  signal: AbortSignal,
): Promise<void> {
  async function* keys(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const step of steps) {
      if (step.kind === 'input') yield step.data;
      else if (step.kind === 'resize') await orEnded(agent.resize(selector, step.size, inMs(askLimitMs, signal)));
      else await orEnded(agent.signalForeground(selector, step.signal, inMs(askLimitMs, signal)));
    }
  }
  await orEnded(agent.sendKeys(selector, keys(), signal));
}

// A terminal that has ended says so itself, with its exit.
async function orEnded(asked: Promise<void>): Promise<void> {
  try {
    await asked;
  } catch (error) {
    if (!hasReason(error, 'PROCESS_NOT_FOUND', 'STDIN_CLOSED')) throw error;
  }
}
