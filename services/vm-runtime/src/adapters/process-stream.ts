// The events of one process, held against the protocol before anybody builds on them: the start comes first and
// once, what a terminal shows directly behind it, numbers have no gap, the exit comes last. An agent that tells anything else has misbehaved.
import { WrennError, hasReason } from '@wrenn/kit/errors';
import type { ProcessEvent_ScreenEvent, ProcessEvent as WireEvent } from '@wrenn/proto/process/process';

import type { ProcessEvent } from '../domain/guest-agent.ts';
import type { AgentConnection } from './agent-connection.ts';

export interface StreamLimits {
  readonly startMs: number; // For the agent to say that the process runs.
  readonly lingerMs: number; // For the stream to end behind the exit.
}

type Message = { readonly event?: WireEvent | undefined };

const defaultLimits: StreamLimits = { startMs: 30_000, lingerMs: 1000 };
const maxPid = 2 ** 22;
// The agent sends 32 KiB at most; a message of 4 MiB is cut off below.
const maxEventBytes = 256 * 1024;
const maxScreenBytes = 3.5 * 1024 * 1024;
const maxCells = 65_535;

// `open` begins the call, which ends with the signal. `after`: the number behind which the events begin; undefined: wherever the process is.
export async function* processEvents(
  connection: AgentConnection,
  open: (signal: AbortSignal) => AsyncIterable<Message>,
  after: bigint | undefined,
  signal: AbortSignal,
  { startMs, lingerMs }: StreamLimits = defaultLimits,
): AsyncGenerator<ProcessEvent, void, undefined> {
  const protocol = new ProcessProtocol(after);
  const leave = new AbortController();
  const leaveNow = () => leave.abort();
  const leaveIn = (limitMs: number) => setTimeout(leaveNow, limitMs);
  const others = [signal, connection.gone];
  for (const other of others) other.addEventListener('abort', leaveNow, { once: true });
  if (others.some(({ aborted }) => aborted)) leaveNow();
  let limit = leaveIn(startMs);
  try {
    for await (const { event } of open(leave.signal)) {
      const taken = event && protocol.take(event);
      if (!taken) continue;
      if (taken.kind === 'started') clearTimeout(limit);
      if (taken.kind === 'exited') limit = leaveIn(lingerMs);
      yield taken;
    }
    protocol.end();
  } catch (error) {
    if (!leave.signal.aborted || signal.aborted || connection.gone.aborted) throw failureOf(error, connection);
    // With the exit it had said all there is to say.
    if (protocol.hasExited) return;
    throw new WrennError('AGENT_UNREACHABLE', `the agent did not start a process within ${startMs} ms`);
  } finally {
    clearTimeout(limit);
    for (const other of others) other.removeEventListener('abort', leaveNow);
  }
}

// No caller's message is in a stream of answers: one that is too large is the agent's.
function failureOf(error: unknown, connection: AgentConnection): WrennError {
  const translated = connection.translated(error);
  if (!hasReason(translated, 'MESSAGE_TOO_LARGE')) return translated;
  return new WrennError('AGENT_MISBEHAVED', translated.message, { cause: error });
}

class ProcessProtocol {
  hasExited = false;
  readonly #after: bigint | undefined;
  #hasStarted = false;
  #isNumbered: boolean | undefined;
  #last: bigint | undefined;

  constructor(after: bigint | undefined) {
    this.#after = after;
    this.#last = after;
  }

  // Undefined: nothing that anybody is told of.
  take({ event, sequence }: WireEvent): ProcessEvent | undefined {
    if (event.case === 'keepalive' || event.case === undefined) return undefined;
    if (this.hasExited) throw misbehaved('an event behind the exit');
    if ((event.case === 'start') === this.#hasStarted) throw misbehaved('no start first, or a second one');
    if (event.case === 'start') {
      this.#hasStarted = true;
      const { pid } = event.value;
      if (pid < 1 || pid > maxPid) throw misbehaved(`a process id that cannot be: ${pid}`);
      return { kind: 'started', pid };
    }
    if (event.case === 'screen') return this.#screen(event.value, sequence);
    this.hasExited = event.case === 'end';
    this.#count(sequence);
    if (event.case === 'end') {
      const exitCode = Math.min(Math.max(event.value.exitCode, 0), 255);
      return { kind: 'exited', sequence, exitCode, signal: event.value.exited ? 0 : Math.max(exitCode - 128, 0) };
    }
    const { output } = event.value;
    if ((output.value?.length ?? 0) > maxEventBytes) throw misbehaved('more output in one event than there can be');
    if (output.case === undefined) return undefined;
    return { kind: output.case === 'pty' ? 'terminal' : output.case, sequence, data: output.value };
  }

  end(): void {
    if (!this.hasExited) throw misbehaved('the end of a stream without the end of the process');
  }

  #screen({ size, contents }: ProcessEvent_ScreenEvent, sequence: bigint): ProcessEvent {
    if (this.#last !== undefined) throw misbehaved('a screen that nobody asked for, or a second one');
    const { cols: columns = 0, rows = 0 } = size ?? {};
    const isPossible = [columns, rows].every((cells) => cells >= 1 && cells <= maxCells);
    if (!isPossible || contents.length > maxScreenBytes) throw misbehaved('a screen that cannot be');
    this.#isNumbered = true;
    this.#last = sequence;
    return { kind: 'screen', sequence, size: { columns, rows }, contents };
  }

  #count(sequence: bigint): void {
    const last = this.#last;
    // A guest that runs since before there were numbers has none at all.
    this.#isNumbered ??= sequence > 0n;
    if (!this.#isNumbered && sequence === 0n) return;
    this.#last = sequence;
    const isNext = this.#isNumbered && (last === undefined || sequence === last + 1n);
    // Who has seen the exit already is told of it again.
    const isSeenExit = this.hasExited && sequence === this.#after && last === this.#after;
    if (!isNext && !isSeenExit) throw misbehaved(`event ${sequence} behind event ${last}`);
  }
}

function misbehaved(what: string): WrennError {
  return new WrennError('AGENT_MISBEHAVED', `the agent sent ${what}`);
}
