// What callers of ProcessService ask for, checked, in the words of the domain.
import { invalidField } from '@wrenn/kit/errors';
import { requireEnv, requireSandboxId, requireWithin } from '@wrenn/kit/validate';
import type {
  AttachStart,
  ProcessSelector,
  ProcessServiceAttachRequest,
  ProcessSpec,
  TerminalSize as WireSize,
} from '@wrenn/proto/wrenn/v1/process';

import type { Command, Selector, TerminalSize } from './domain/guest-agent.ts';
import type { Opening, Step } from './domain/terminal.ts';

export const maxInputBytes = 2 * 1024 * 1024;
const defaultSize: TerminalSize = { columns: 80, rows: 24 };
const maxCells = 65_535;
const tagPattern = /^[A-Za-z0-9._-]{1,64}$/;
const userPattern = /^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$/;

export function commandOf(spec: ProcessSpec | undefined): Command {
  if (!spec) throw invalidField('process', 'must be set');
  const { command, args, env, cwd, user } = spec;
  if (command === '' || Buffer.byteLength(command) > 4096)
    throw invalidField('process.command', 'must be 1 to 4096 bytes');
  if (args.length > 1024) throw invalidField('process.args', 'must be at most 1024');
  const argBytes = args.reduce((sum, arg) => sum + Buffer.byteLength(arg) + 1, 0);
  if (argBytes > 128 * 1024) throw invalidField('process.args', 'must be at most 128 KiB in all');
  if ([command, ...args].some((text) => text.includes('\0'))) throw invalidField('process.command', 'must hold no NUL');
  requireEnv(env, 'process.env');
  if (cwd !== '' && !/^\/[^\0]{0,4094}$/.test(cwd)) throw invalidField('process.cwd', 'must be an absolute path');
  if (user !== '' && !userPattern.test(user)) throw invalidField('process.user', 'must be a user name');
  return { command, args, env, cwd, user };
}

// The name that a process is to get; empty: none.
export function newTagOf(tag: string): string {
  if (tag !== '' && !tagPattern.test(tag)) throw invalidField('tag', 'must be 1 to 64 characters A-Za-z0-9._-');
  return tag;
}

export function selectorOf(selector: ProcessSelector | undefined): Selector {
  const chosen = selector?.selector;
  switch (chosen?.case) {
    case 'pid':
      return { pid: requireWithin(chosen.value, 'process.pid', 1, 2 ** 22) };
    case 'tag':
      if (!tagPattern.test(chosen.value)) throw invalidField('process.tag', 'must be 1 to 64 characters A-Za-z0-9._-');
      return { tag: chosen.value };
    default:
      throw invalidField('process', 'must name a pid or a tag');
  }
}

export function requireSize(bytes: Uint8Array, field: string, min: number, max: number): Uint8Array {
  requireWithin(bytes.length, field, min, max);
  return bytes;
}

export function sizeOf(size: WireSize | undefined): TerminalSize {
  if (!size) throw invalidField('size', 'must be set');
  const cells = (value: number, field: string) => requireWithin(value, field, 1, maxCells);
  return { columns: cells(size.columns, 'size.columns'), rows: cells(size.rows, 'size.rows') };
}

export function requireSignal(signal: number): number {
  return requireWithin(signal, 'signal', 1, 64);
}

export function attachStartOf(first: IteratorResult<ProcessServiceAttachRequest, unknown>): AttachStart {
  const part = first.done ? undefined : first.value.part;
  if (part?.case !== 'start') throw invalidField('start', 'must be the first message');
  requireSandboxId(part.value.sandboxId);
  return part.value;
}

export function openingOf({ terminal, size, afterSequence }: AttachStart): Opening {
  switch (terminal.case) {
    case 'newTerminal':
      if (afterSequence !== undefined) throw invalidField('after_sequence', 'must not be set for a new terminal');
      return {
        kind: 'new',
        command: commandOf(terminal.value.process),
        tag: newTagOf(terminal.value.tag),
        size: size ? sizeOf(size) : defaultSize,
      };
    case 'existing':
      return {
        kind: 'existing',
        selector: selectorOf(terminal.value),
        size: size && sizeOf(size),
        afterSequence,
      };
    default:
      throw invalidField('terminal', 'must be a new or an existing one');
  }
}

// What a caller sends behind `start`.
export async function* stepsOf(
  messages: AsyncIterator<ProcessServiceAttachRequest>,
): AsyncGenerator<Step, void, undefined> {
  for (let next = await messages.next(); !next.done; next = await messages.next()) yield stepOf(next.value);
}

function stepOf({ part }: ProcessServiceAttachRequest): Step {
  switch (part.case) {
    case 'input':
      return { kind: 'input', data: requireSize(part.value, 'input', 1, maxInputBytes) };
    case 'resize':
      return { kind: 'resize', size: sizeOf(part.value) };
    case 'signal':
      return { kind: 'signal', signal: requireSignal(part.value) };
    case 'start':
      throw invalidField('start', 'must be the first message only');
    default:
      throw invalidField('part', 'must be input, resize or signal');
  }
}
