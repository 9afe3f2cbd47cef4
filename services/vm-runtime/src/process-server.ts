import { type Duration } from '@bufbuild/protobuf/wkt';
import { type CallDeadline, within } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { invalidField } from '@wrenn/kit/errors';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireDurationWithin, requireEnv, requireSandboxId, requireWithin } from '@wrenn/kit/validate';
import type { ProcessSelector, ProcessService, ProcessSpec } from '@wrenn/proto/wrenn/v1/process';

import { exec } from './domain/exec.ts';
import type { Command, GuestAgent, ProcessEvent, Selector } from './domain/guest-agent.ts';
import type { VmTable } from './domain/vm-table.ts';

const MiB = 1024 * 1024;
const dayMs = 24 * 3_600_000;
const defaultExecTimeoutMs = 60_000;
// A short answer from the agent to a short question.
const askLimitMs = 30_000;
const tagPattern = /^[A-Za-z0-9._-]{1,64}$/;
const userPattern = /^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$/;

export function processHandlers(vms: Pick<VmTable, 'serving'>): RpcHandlers<typeof ProcessService.method> {
  const agentOf = async (sandboxId: string): Promise<GuestAgent> =>
    (await vms.serving(requireSandboxId(sandboxId))).agent;
  return {
    async exec(request, call) {
      const options = {
        command: commandOf(request.process),
        stdin: requireSize(request.stdin, 'stdin', 0, 2 * MiB),
        timeoutMs: execTimeoutMs(request),
        maxOutputBytes: requireWithin(Number(request.maxOutputBytes), 'max_output_bytes', 0, 3 * MiB) || MiB,
      };
      const { durationMs, ...result } = await exec(await agentOf(request.sandboxId), options, call.signal);
      return { ...result, duration: durationOfMs(durationMs) };
    },
    async *start(request, call) {
      const { tag, hasStdin } = request;
      if (tag !== '' && !tagPattern.test(tag)) throw invalidField('tag', 'must be 1 to 64 characters A-Za-z0-9._-');
      const command = commandOf(request.process);
      const options = { hasStdin, ...(tag !== '' && { tag }) };
      const events = (await agentOf(request.sandboxId)).start(command, options, call.signal);
      for await (const event of events) yield { event: wireEvent(event) };
    },
    async *connect(request, call) {
      const selector = selectorOf(request.process);
      const events = (await agentOf(request.sandboxId)).connect(selector, request.afterSequence, call.signal);
      for await (const event of events) yield { event: wireEvent(event) };
    },
    async sendInput(request, call) {
      const data = requireSize(request.data, 'data', 1, 2 * MiB);
      await (await agentOf(request.sandboxId)).sendInput(selectorOf(request.process), data, withinDay(call));
      return {};
    },
    async closeStdin(request, call) {
      await (await agentOf(request.sandboxId)).closeStdin(selectorOf(request.process), withinDay(call));
      return {};
    },
    async signal(request, call) {
      const signal = requireWithin(request.signal, 'signal', 1, 64);
      await (await agentOf(request.sandboxId)).signal(selectorOf(request.process), signal, within(call, askLimitMs));
      return {};
    },
    async list(request, call) {
      const processes = await (await agentOf(request.sandboxId)).list(within(call, askLimitMs));
      return { processes: processes.map(({ pid, tag, command }) => ({ pid, tag, process: wireCommand(command) })) };
    },
  };
}

export function execTimeoutMs(request: { timeout?: Duration | undefined }): number {
  if (!request.timeout) return defaultExecTimeoutMs;
  return requireDurationWithin(request.timeout, 'timeout', 1, dayMs);
}

// A process may take its time to read: only the caller's patience counts.
const withinDay = (call: CallDeadline) => within(call, dayMs);

function commandOf(spec: ProcessSpec | undefined): Command {
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

const wireCommand = ({ command, args, env, cwd, user }: Command) => ({ command, args: [...args], env, cwd, user });

function selectorOf(selector: ProcessSelector | undefined): Selector {
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

function requireSize(bytes: Uint8Array, field: string, min: number, max: number): Uint8Array {
  requireWithin(bytes.length, field, min, max);
  return bytes;
}

function wireEvent(event: ProcessEvent) {
  switch (event.kind) {
    case 'started':
      return { event: { case: 'started' as const, value: { pid: event.pid } } };
    case 'exited':
      return {
        sequence: event.sequence,
        event: { case: 'exited' as const, value: { exitCode: event.exitCode, signal: event.signal } },
      };
    default:
      return { sequence: event.sequence, event: { case: event.kind, value: event.data } };
  }
}
