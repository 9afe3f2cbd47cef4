// The guest agent over gRPC: lifecycle on the control lane, processes, files and ports on the interactive one.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import type { MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs, timestampNow } from '@bufbuild/protobuf/wkt';
import { type OutboundCall, inMs } from '@wrenn/kit/deadlines';
import type { RpcClient } from '@wrenn/kit/lanes';
import { Health } from '@wrenn/proto/grpc/health/v1/health';
import { type ConnectRequestSchema, Process, type Signal } from '@wrenn/proto/process/process';
import { AgentService, type WatchPortsResponse } from '@wrenn/proto/wrenn/agent/v1/agent';

import type { AgentDialer } from '../domain/vm.ts';
import type {
  CloseReason,
  Command,
  GuestAgent,
  GuestIdentity,
  PortChange,
  ProcessEvent,
  RunningProcess,
  Selector,
  StartOptions,
  TerminalSize,
} from '../domain/guest-agent.ts';
import type { GuestFiles } from '../domain/guest-files.ts';
import { AgentConnection, agentPort } from './agent-connection.ts';
import { GrpcGuestFiles } from './grpc-guest-files.ts';
import { type StreamLimits, processEvents } from './process-stream.ts';

// What a guest's kernel pool holds: a booted VM has nothing else to start from but the CPU's own.
const entropyBytes = 64;
// A SYN that the booting guest does not see yet is not repeated by the kernel for a second: ask anew.
const dialTimeoutMs = 100;
const dialPauseMs = 10;
// How far a guest's clock may be behind, and how often it is set until it is not.
const clockToleranceMs = 500;
const initAttempts = 5;

export class GrpcAgentDialer implements AgentDialer {
  readonly #limits: StreamLimits | undefined;

  constructor(limits?: StreamLimits) {
    this.#limits = limits;
  }

  dial(guestAddress: string, accessToken: string): GuestAgent {
    return new GrpcGuestAgent(new AgentConnection(guestAddress, accessToken), this.#limits);
  }
}

class GrpcGuestAgent implements GuestAgent {
  readonly files: GuestFiles;
  readonly #connection: AgentConnection;
  readonly #process: RpcClient<typeof Process.method>;
  readonly #limits: StreamLimits | undefined;

  constructor(connection: AgentConnection, limits: StreamLimits | undefined) {
    this.#connection = connection;
    this.#limits = limits;
    this.#process = connection.client('interactive', Process);
    this.files = new GrpcGuestFiles(connection, 'interactive');
  }

  async awaitListening(signal: AbortSignal): Promise<void> {
    while (!(await accepts(this.#connection.address, agentPort))) await sleep(dialPauseMs, undefined, { signal });
  }

  async init(identity: GuestIdentity, call: OutboundCall): Promise<void> {
    const request = {
      sandboxId: identity.sandboxId,
      templateId: identity.template,
      hostname: identity.sandboxId,
      env: { ...identity.env },
      defaultUser: identity.defaultUser,
      entropy: randomBytes(entropyBytes),
      accessToken: this.#connection.accessToken,
    };
    const service = this.#connection.client('control', AgentService);
    this.#connection.isPausing = false;
    // What took its time on the way set an old clock.
    for (let attempt = 1; attempt <= initAttempts; attempt++) {
      const askedAtMs = performance.now();
      const now = { ...request, time: timestampNow() };
      await this.#connection.asked(() => service.init(now, this.#connection.as('', call)));
      if (performance.now() - askedAtMs < clockToleranceMs) break;
    }
    this.#connection.expectCommands();
  }

  async drain(limitMs: number, call: OutboundCall): Promise<number> {
    const service = this.#connection.client('control', AgentService);
    const answer = service.drain({ limit: durationFromMs(limitMs) }, this.#connection.as('', call));
    return (await this.#connection.asked(() => answer)).transfersLeft;
  }

  async quiesce(call: OutboundCall): Promise<void> {
    const service = this.#connection.client('control', AgentService);
    this.#connection.isPausing = true;
    try {
      await service.quiesce({}, this.#connection.as('', call));
    } catch (error) {
      this.#connection.isPausing = false;
      throw this.#connection.translated(error);
    }
  }

  start(command: Command, options: StartOptions, signal: AbortSignal): AsyncIterable<ProcessEvent> {
    const request = {
      process: { cmd: command.command, args: [...command.args], envs: { ...command.env }, cwd: command.cwd },
      stdin: options.hasStdin,
      ...(options.tag && { tag: options.tag }),
      ...(options.terminal && { pty: wireSize(options.terminal) }),
    };
    const metadata = this.#connection.metadataAs(command.user);
    const open = (bounded: AbortSignal) => this.#process.start(request, { signal: bounded, metadata });
    return processEvents(this.#connection, open, 0n, signal, this.#limits);
  }

  connect(selector: Selector, afterSequence: bigint | undefined, signal: AbortSignal): AsyncIterable<ProcessEvent> {
    return this.#connect({ process: wireSelector(selector), screen: false }, afterSequence, signal);
  }

  view(selector: Selector, afterSequence: bigint | undefined, signal: AbortSignal): AsyncIterable<ProcessEvent> {
    return this.#connect({ process: wireSelector(selector), screen: true }, afterSequence, signal);
  }

  #connect(
    what: MessageInitShape<typeof ConnectRequestSchema>,
    afterSequence: bigint | undefined,
    signal: AbortSignal,
  ): AsyncIterable<ProcessEvent> {
    const request = { ...what, ...(afterSequence !== undefined && { afterSequence }) };
    const metadata = this.#connection.metadataAs('');
    const open = (bounded: AbortSignal) => this.#process.connect(request, { signal: bounded, metadata });
    return processEvents(this.#connection, open, afterSequence, signal, this.#limits);
  }

  async sendKeys(selector: Selector, keys: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    async function* requests() {
      yield { event: { case: 'start' as const, value: { process: wireSelector(selector) } } };
      for await (const value of keys) {
        yield { event: { case: 'data' as const, value: { input: { input: { case: 'pty' as const, value } } } } };
      }
    }
    await this.#connection.asked(() => this.#process.streamInput(requests(), this.#connection.as('', { signal })));
  }

  async resize(selector: Selector, size: TerminalSize, call: OutboundCall): Promise<void> {
    const request = { process: wireSelector(selector), pty: wireSize(size) };
    await this.#connection.asked(() => this.#process.update(request, this.#connection.as('', call)));
  }

  async sendInput(selector: Selector, data: Uint8Array, call: OutboundCall): Promise<void> {
    const request = { process: wireSelector(selector), input: { input: { case: 'stdin' as const, value: data } } };
    await this.#connection.asked(() => this.#process.sendInput(request, this.#connection.as('', call)));
  }

  async closeStdin(selector: Selector, call: OutboundCall): Promise<void> {
    const request = { process: wireSelector(selector) };
    await this.#connection.asked(() => this.#process.closeStdin(request, this.#connection.as('', call)));
  }

  signal(selector: Selector, signal: number, call: OutboundCall): Promise<void> {
    return this.#signal(selector, signal, false, call);
  }

  signalForeground(selector: Selector, signal: number, call: OutboundCall): Promise<void> {
    return this.#signal(selector, signal, true, call);
  }

  async #signal(selector: Selector, signal: number, foreground: boolean, call: OutboundCall): Promise<void> {
    // Any number is sent as it is: the enum names only what E2B's clients know.
    const request = { process: wireSelector(selector), signal: signal as Signal, foreground };
    await this.#connection.asked(() => this.#process.sendSignal(request, this.#connection.as('', call)));
  }

  list(call: OutboundCall): Promise<RunningProcess[]> {
    return this.#connection.asked(async () => {
      const { processes } = await this.#process.list({}, this.#connection.as('', call));
      return processes.map(({ pid, tag = '', config, hasPty }) => ({
        pid,
        tag,
        isTerminal: hasPty,
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

  watchPorts(signal: AbortSignal): AsyncIterable<PortChange> {
    const service = this.#connection.client('interactive', AgentService);
    return this.#connection.streamed(service.watchPorts({}, this.#connection.as('', { signal })), portChange);
  }

  async isAnswering(limitMs: number): Promise<boolean> {
    const health = this.#connection.client('control', Health);
    try {
      await health.check({ service: '' }, this.#connection.as('', inMs(limitMs)));
      return true;
    } catch {
      // Why there is no answer makes no difference.
      return false;
    }
  }

  close(why: CloseReason): void {
    this.#connection.close(why);
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

const wireSize = ({ columns, rows }: TerminalSize) => ({ size: { cols: columns, rows } });

function portChange({ change }: WatchPortsResponse): PortChange | undefined {
  if (change.case === undefined) return undefined;
  const { port, isLoopbackOnly } = change.value;
  return port >= 1 && port <= 65_535 ? { kind: change.case, port, isLoopbackOnly } : undefined;
}
