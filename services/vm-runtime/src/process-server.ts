import { type Duration } from '@bufbuild/protobuf/wkt';
import { type CallDeadline, within } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireDurationWithin, requireSandboxId, requireWithin } from '@wrenn/kit/validate';
import type { ProcessService } from '@wrenn/proto/wrenn/v1/process';

import { exec } from './domain/exec.ts';
import type { Command, GuestAgent, ProcessEvent } from './domain/guest-agent.ts';
import { attach } from './domain/terminal.ts';
import type { VmTable } from './domain/vm-table.ts';
import {
  attachStartOf,
  commandOf,
  maxInputBytes,
  newTagOf,
  openingOf,
  requireSignal,
  requireSize,
  selectorOf,
  sizeOf,
  stepsOf,
} from './process-requests.ts';

const MiB = 1024 * 1024;
const dayMs = 24 * 3_600_000;
const defaultExecTimeoutMs = 60_000;
// A short answer from the agent to a short question.
const askLimitMs = 30_000;

export function processHandlers(vms: Pick<VmTable, 'serving'>): RpcHandlers<typeof ProcessService.method> {
  const agentOf = async (sandboxId: string): Promise<GuestAgent> =>
    (await vms.serving(requireSandboxId(sandboxId))).agent;
  return {
    async exec(request, call) {
      const options = {
        command: commandOf(request.process),
        stdin: requireSize(request.stdin, 'stdin', 0, maxInputBytes),
        timeoutMs: execTimeoutMs(request),
        maxOutputBytes: requireWithin(Number(request.maxOutputBytes), 'max_output_bytes', 0, 3 * MiB) || MiB,
      };
      const { durationMs, ...result } = await exec(await agentOf(request.sandboxId), options, call.signal);
      return { ...result, duration: durationOfMs(durationMs) };
    },
    async *start(request, call) {
      const tag = newTagOf(request.tag);
      const command = commandOf(request.process);
      const options = { hasStdin: request.hasStdin, ...(tag !== '' && { tag }) };
      const events = (await agentOf(request.sandboxId)).start(command, options, call.signal);
      for await (const event of events) yield { event: wireEvent(event) };
    },
    async *connect(request, call) {
      const selector = selectorOf(request.process);
      const events = (await agentOf(request.sandboxId)).connect(selector, request.afterSequence, call.signal);
      for await (const event of events) yield { event: wireEvent(event) };
    },
    async *attach(requests, call) {
      const messages = requests[Symbol.asyncIterator]();
      const start = attachStartOf(await messages.next());
      const opening = openingOf(start);
      const agent = await agentOf(start.sandboxId);
      for await (const event of attach(agent, opening, stepsOf(messages), call.signal)) {
        yield { event: wireEvent(event) };
      }
    },
    async resize(request, call) {
      const size = sizeOf(request.size);
      const process = selectorOf(request.process);
      await (await agentOf(request.sandboxId)).resize(process, size, within(call, askLimitMs));
      return {};
    },
    async sendInput(request, call) {
      const data = requireSize(request.data, 'data', 1, maxInputBytes);
      await (await agentOf(request.sandboxId)).sendInput(selectorOf(request.process), data, withinDay(call));
      return {};
    },
    async closeStdin(request, call) {
      await (await agentOf(request.sandboxId)).closeStdin(selectorOf(request.process), withinDay(call));
      return {};
    },
    async signal(request, call) {
      const signal = requireSignal(request.signal);
      await (await agentOf(request.sandboxId)).signal(selectorOf(request.process), signal, within(call, askLimitMs));
      return {};
    },
    async list(request, call) {
      const processes = await (await agentOf(request.sandboxId)).list(within(call, askLimitMs));
      return {
        processes: processes.map(({ command, ...facts }) => ({ ...facts, process: wireCommand(command) })),
      };
    },
  };
}

export function execTimeoutMs(request: { timeout?: Duration | undefined }): number {
  if (!request.timeout) return defaultExecTimeoutMs;
  return requireDurationWithin(request.timeout, 'timeout', 1, dayMs);
}

// A process may take its time to read: only the caller's patience counts.
const withinDay = (call: CallDeadline) => within(call, dayMs);

const wireCommand = ({ command, args, env, cwd, user }: Command) => ({ command, args: [...args], env, cwd, user });

function wireEvent(event: ProcessEvent) {
  switch (event.kind) {
    case 'started':
      return { event: { case: 'started' as const, value: { pid: event.pid } } };
    case 'exited':
      return {
        sequence: event.sequence,
        event: { case: 'exited' as const, value: { exitCode: event.exitCode, signal: event.signal } },
      };
    case 'screen': {
      const { sequence, size, contents } = event;
      return { sequence, event: { case: 'screen' as const, value: { size, contents } } };
    }
    default:
      return { sequence: event.sequence, event: { case: event.kind, value: event.data } };
  }
}
