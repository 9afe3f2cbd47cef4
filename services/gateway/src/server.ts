// Forwards whole services by their descriptors: what a newer client or callee adds to a message passes
// through, and a new rpc needs no code here.
import type { DescMethod, DescService, Message } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import type { Activity } from '@wrenn/kit/activity-report';
import { within } from '@wrenn/kit/deadlines';
import { WrennError, invalidField } from '@wrenn/kit/errors';
import type { Call, PassingHandlers, RpcServer } from '@wrenn/kit/rpc-server';
import { requireSandboxId } from '@wrenn/kit/validate';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { HostService } from '@wrenn/proto/wrenn/v1/host';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { MetricsService } from '@wrenn/proto/wrenn/v1/metrics';
import { PortService } from '@wrenn/proto/wrenn/v1/port';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';
import { SnapshotService } from '@wrenn/proto/wrenn/v1/snapshot';
import { TraceService } from '@wrenn/proto/wrenn/v1/trace';

import { counted } from './domain/counted.ts';
import type { HostPeers, Peer, ResolveSandbox } from './domain/peers.ts';
import type { SandboxRouter } from './domain/sandbox-router.ts';

// `request` names the sandbox; `stream` is all that is sent where that is more than one message.
type Forward = (
  method: DescMethod,
  request: Message,
  call: Call,
  stream?: AsyncIterable<Message>,
) => AsyncIterable<Uint8Array>;

// Methods that may run twice without harm.
const idempotent: ReadonlySet<DescMethod> = new Set([
  ProcessService.method.connect,
  ProcessService.method.closeStdin,
  ProcessService.method.list,
  FilesystemService.method.stat,
  FilesystemService.method.list,
  FilesystemService.method.remove,
  FilesystemService.method.read,
  FilesystemService.method.watch,
  FilesystemService.method.signUrl,
  PortService.method.watch,
]);

// Methods that move bytes in number: they travel, and end, apart from all others.
const bulk: ReadonlySet<DescMethod> = new Set([FilesystemService.method.read, FilesystemService.method.write]);

export interface GatewayParts {
  readonly scheduler: Peer;
  readonly hosts: HostPeers;
  readonly resolve: ResolveSandbox;
  readonly locate: ResolveSandbox;
  readonly router: SandboxRouter;
  readonly activity: Activity;
  readonly traces: Peer;
}

export function addGatewayServices(rpc: RpcServer, parts: GatewayParts): void {
  const forwardToScheduler = toScheduler(parts);
  const forwardToHost = counted(parts.activity, toSandboxHost(parts));
  const forwardToRecords = toHostOfRecords(parts);
  rpc.pass(SandboxService, handlersOf(SandboxService, forwardToScheduler));
  rpc.pass(SnapshotService, handlersOf(SnapshotService, forwardToScheduler));
  rpc.pass(HostService, handlersOf(HostService, forwardToScheduler));
  rpc.pass(ProcessService, handlersOf(ProcessService, forwardToHost));
  rpc.pass(LogService, handlersOf(LogService, forwardToRecords));
  rpc.pass(MetricsService, handlersOf(MetricsService, forwardToRecords));
  rpc.pass(FilesystemService, handlersOf(FilesystemService, forwardToHost));
  rpc.pass(PortService, handlersOf(PortService, forwardToHost));
  rpc.pass(TraceService, handlersOf(TraceService, toKeeper(parts)));
}

function handlersOf<S extends GenServiceMethods>(service: GenService<S>, forward: Forward): PassingHandlers<S> {
  const handlers: Record<string, unknown> = {};
  for (const method of (service as DescService).methods) {
    if (method.methodKind === 'unary') {
      handlers[method.localName] = (request: Message, call: Call) => onlyAnswer(forward(method, request, call));
    } else if (method.methodKind === 'server_streaming') {
      handlers[method.localName] = (request: Message, call: Call) => forward(method, request, call);
    } else if (method.methodKind === 'client_streaming') {
      handlers[method.localName] = async (requests: AsyncIterable<Message>, call: Call) => {
        const { start, stream } = await begun(requests);
        return onlyAnswer(forward(method, start, call, stream));
      };
    } else {
      handlers[method.localName] = async function* both(requests: AsyncIterable<Message>, call: Call) {
        const { start, stream } = await begun(requests);
        yield* forward(method, start, call, stream);
      };
    }
  }
  return handlers as PassingHandlers<S>;
}

function toScheduler({ scheduler }: GatewayParts): Forward {
  return (method, request, call) => {
    if (method.input.field.sandboxId && method !== SandboxService.method.watchEvents) sandboxIdOf(request);
    return scheduler.call(method, request, within(call, Infinity));
  };
}

function toKeeper({ traces }: GatewayParts): Forward {
  return (method, request, call) => traces.call(method, request, within(call, Infinity));
}

function toSandboxHost({ hosts, resolve, router }: GatewayParts): Forward {
  return (method, request, call, stream) => {
    const sandboxId = sandboxIdOf(request);
    return router.run<Uint8Array>({
      sandboxId,
      isIdempotent: idempotent.has(method),
      isRepeatable: stream === undefined,
      resolve: () => resolve(sandboxId, call),
      attempt: async function* attempt(address) {
        using host = hosts.use(address, bulk.has(method) ? 'bulk' : 'interactive');
        yield* host.peer.call(method, stream ?? request, within(call, Infinity));
      },
    });
  };
}

// What a host has noted of a sandbox is there whether it runs or not, and nobody is to be woken for it.
function toHostOfRecords({ hosts, locate }: GatewayParts): Forward {
  return async function* forward(method, request, call) {
    const address = await locate(sandboxIdOf(request), call);
    using host = hosts.use(address, 'interactive');
    yield* host.peer.call(method, request, within(call, Infinity));
  };
}

type Opening = Message & { readonly part: { readonly case?: string; readonly value?: Message } };

// The first message of a client's stream says where it goes, and goes there with the others.
async function begun(requests: AsyncIterable<Message>): Promise<{ start: Message; stream: AsyncIterable<Message> }> {
  const messages = requests[Symbol.asyncIterator]();
  const first = await messages.next();
  const opening = first.done ? undefined : (first.value as Opening).part;
  if (opening?.case !== 'start' || !opening.value) throw invalidField('start', 'must be the first message');
  return { start: opening.value, stream: rejoined(first.value as Message, messages) };
}

async function* rejoined(first: Message, rest: AsyncIterator<Message>): AsyncGenerator<Message, void, undefined> {
  yield first;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

function sandboxIdOf(request: Message): string {
  return requireSandboxId((request as Message & { readonly sandboxId: string }).sandboxId);
}

async function onlyAnswer(answers: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  for await (const answer of answers) return answer;
  throw new WrennError('INTERNAL', 'the callee ended without an answer');
}
