// The guest agent over gRPC: lifecycle on the control lane, processes on the interactive one. The lanes
// belong to one VM and end with it.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { timestampNow } from '@bufbuild/protobuf/wkt';
import type { OutboundCall } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { Lanes, type RpcClient } from '@wrenn/kit/lanes';
import { Process, type Signal, type ProcessEvent as WireEvent } from '@wrenn/proto/process/process';
import { AgentService } from '@wrenn/proto/wrenn/agent/v1/agent';
import { Metadata } from 'nice-grpc-common';

import type { AgentDialer } from '../domain/vm.ts';
import type {
  Command,
  GuestAgent,
  GuestIdentity,
  ProcessEvent,
  RunningProcess,
  Selector,
  StartOptions,
} from '../domain/guest-agent.ts';
import { agentReasons } from './agent-reasons.ts';

const agentPort = 49_983;
// What a guest's kernel pool holds: a booted VM has nothing else to start from but the CPU's own.
const entropyBytes = 64;
const maxMessageChars = 1000;
// A SYN that the booting guest does not see yet is not repeated by the kernel for a second: ask anew.
const dialTimeoutMs = 100;
const dialPauseMs = 10;

export class GrpcAgentDialer implements AgentDialer {
  dial(guestAddress: string): GuestAgent {
    return new GrpcGuestAgent(guestAddress);
  }
}

class GrpcGuestAgent implements GuestAgent {
  readonly #address: string;
  readonly #lanes: Lanes;
  readonly #gone = new AbortController();
  readonly #process: RpcClient<typeof Process.method>;

  constructor(address: string) {
    this.#address = address;
    this.#lanes = new Lanes(`${address}:${agentPort}`, 'the guest agent', agentReasons);
    this.#process = this.#lanes.client('interactive', Process);
  }

  async awaitListening(signal: AbortSignal): Promise<void> {
    while (!(await accepts(this.#address, agentPort))) await sleep(dialPauseMs, undefined, { signal });
  }

  init(identity: GuestIdentity, call: OutboundCall): Promise<void> {
    const request = {
      sandboxId: identity.sandboxId,
      templateId: identity.template,
      hostname: identity.sandboxId,
      env: { ...identity.env },
      time: timestampNow(),
      defaultUser: identity.defaultUser,
      entropy: randomBytes(entropyBytes),
    };
    return this.#asked(async () => {
      await this.#lanes.client('control', AgentService).init(request, this.#bounded(call));
    });
  }

  start(command: Command, options: StartOptions, signal: AbortSignal): AsyncIterable<ProcessEvent> {
    const request = {
      process: { cmd: command.command, args: [...command.args], envs: { ...command.env }, cwd: command.cwd },
      stdin: options.hasStdin,
      ...(options.tag && { tag: options.tag }),
    };
    const call = { ...this.#bounded({ signal }), metadata: userMetadata(command.user) };
    return this.#events(this.#process.start(request, call));
  }

  connect(selector: Selector, signal: AbortSignal): AsyncIterable<ProcessEvent> {
    return this.#events(this.#process.connect({ process: wireSelector(selector) }, this.#bounded({ signal })));
  }

  sendInput(selector: Selector, data: Uint8Array, call: OutboundCall): Promise<void> {
    const request = { process: wireSelector(selector), input: { input: { case: 'stdin' as const, value: data } } };
    return this.#asked(async () => void (await this.#process.sendInput(request, this.#bounded(call))));
  }

  closeStdin(selector: Selector, call: OutboundCall): Promise<void> {
    const request = { process: wireSelector(selector) };
    return this.#asked(async () => void (await this.#process.closeStdin(request, this.#bounded(call))));
  }

  signal(selector: Selector, signal: number, call: OutboundCall): Promise<void> {
    // Any number is sent as it is: the enum names only what E2B's clients know.
    const request = { process: wireSelector(selector), signal: signal as Signal };
    return this.#asked(async () => void (await this.#process.sendSignal(request, this.#bounded(call))));
  }

  list(call: OutboundCall): Promise<RunningProcess[]> {
    return this.#asked(async () => {
      const { processes } = await this.#process.list({}, this.#bounded(call));
      return processes.map(({ pid, tag = '', config }) => ({
        pid,
        tag,
        command: {
          command: config?.cmd ?? '',
          args: config?.args ?? [],
          env: config?.envs ?? {},
          cwd: config?.cwd ?? '',
          user: '',
        },
      }));
    });
  }

  // Cuts what still runs: a dead guest sends no reset, so its calls would hang until keepalive notices.
  close(): void {
    this.#gone.abort();
    this.#lanes.close();
  }

  async *#events(events: AsyncIterable<{ event?: WireEvent | undefined }>): AsyncGenerator<ProcessEvent, void> {
    try {
      for await (const { event } of events) {
        const known = event && domainEvent(event);
        if (known) yield known;
      }
    } catch (error) {
      throw this.#translated(error);
    }
  }

  async #asked<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      throw this.#translated(error);
    }
  }

  #bounded<C extends OutboundCall>(call: C): C {
    const { signal } = call;
    return { ...call, signal: signal ? AbortSignal.any([signal, this.#gone.signal]) : this.#gone.signal };
  }

  #translated(error: unknown): unknown {
    if (!(error instanceof WrennError)) return error;
    if (this.#gone.signal.aborted)
      return new WrennError('VMM_DIED', 'the sandbox ended during the call', { cause: error });
    const reason = error.reason === 'SERVICE_UNAVAILABLE' ? 'AGENT_UNREACHABLE' : error.reason;
    return new WrennError(reason, printable(error.message), { cause: error, meta: error.meta });
  }
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const answer = (isListening: boolean) => {
      socket.destroy();
      resolve(isListening);
    };
    socket.setTimeout(dialTimeoutMs, () => answer(false));
    socket.once('connect', () => answer(true)).once('error', () => answer(false));
  });
}

function wireSelector(selector: Selector) {
  const chosen =
    'pid' in selector ? { case: 'pid' as const, value: selector.pid } : { case: 'tag' as const, value: selector.tag };
  return { selector: chosen };
}

function domainEvent({ event }: WireEvent): ProcessEvent | undefined {
  switch (event.case) {
    case 'start':
      return { kind: 'started', pid: event.value.pid };
    case 'end':
      return {
        kind: 'exited',
        exitCode: event.value.exitCode,
        signal: event.value.exited ? 0 : event.value.exitCode - 128,
      };
    case 'data': {
      const { output } = event.value;
      if (output.case === 'stdout' || output.case === 'stderr') return { kind: output.case, data: output.value };
      return undefined;
    }
    default:
      return undefined;
  }
}

// envd's protocol names the user by HTTP's basic authentication, without a password.
function userMetadata(user: string): Metadata {
  if (user === '') return Metadata();
  return Metadata({ authorization: `Basic ${Buffer.from(`${user}:`).toString('base64')}` });
}

// The text comes from inside the guest and ends in terminals and logs.
function printable(text: string): string {
  return text.slice(0, maxMessageChars).replaceAll(/[\p{Cc}\p{Cf}]/gu, '?');
}
