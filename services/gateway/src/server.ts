// Forwards whole services by their descriptors: what a newer client or callee adds to a message passes
// through, and a new rpc needs no code here.
import type { DescMethod, DescService, Message } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import type { Activity } from '@wrenn/kit/activity-report';
import { within } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import type { Call, RpcHandlers, RpcServer } from '@wrenn/kit/rpc-server';
import { requireSandboxId } from '@wrenn/kit/validate';
import { HostService } from '@wrenn/proto/wrenn/v1/host';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';

import { counted } from './domain/counted.ts';
import type { HostPeers, Peer, ResolveSandbox } from './domain/peers.ts';
import type { SandboxRouter } from './domain/sandbox-router.ts';

type Forward = (method: DescMethod, request: Message, call: Call) => AsyncIterable<Message>;

// Methods that may run twice without harm.
const idempotent: ReadonlySet<DescMethod> = new Set([
  ProcessService.method.connect,
  ProcessService.method.closeStdin,
  ProcessService.method.list,
  LogService.method.readConsole,
]);

export interface GatewayParts {
  readonly scheduler: Peer;
  readonly hosts: HostPeers;
  readonly resolve: ResolveSandbox;
  readonly router: SandboxRouter;
  readonly activity: Activity;
}

export function addGatewayServices(rpc: RpcServer, parts: GatewayParts): void {
  const forwardToScheduler = toScheduler(parts);
  const forwardToHost = counted(parts.activity, toSandboxHost(parts));
  rpc.add(SandboxService, handlersOf(SandboxService, forwardToScheduler));
  rpc.add(HostService, handlersOf(HostService, forwardToScheduler));
  rpc.add(ProcessService, handlersOf(ProcessService, forwardToHost));
  rpc.add(LogService, handlersOf(LogService, forwardToHost));
}

function handlersOf<S extends GenServiceMethods>(service: GenService<S>, forward: Forward): RpcHandlers<S> {
  const handlers: Record<string, unknown> = {};
  for (const method of (service as DescService).methods) {
    if (method.methodKind === 'unary') {
      handlers[method.localName] = (request: Message, call: Call) => onlyAnswer(forward(method, request, call));
    } else if (method.methodKind === 'server_streaming') {
      handlers[method.localName] = (request: Message, call: Call) => forward(method, request, call);
    } else {
      throw new Error(`the gateway cannot forward the client stream of ${method.name}`);
    }
  }
  return handlers as RpcHandlers<S>;
}

function toScheduler({ scheduler }: GatewayParts): Forward {
  return (method, request, call) => {
    if (method.input.field.sandboxId && method !== SandboxService.method.watchEvents) sandboxIdOf(request);
    return scheduler.call(method, request, within(call, Infinity));
  };
}

function toSandboxHost({ hosts, resolve, router }: GatewayParts): Forward {
  return (method, request, call) => {
    const sandboxId = sandboxIdOf(request);
    return router.run<Message>({
      sandboxId,
      isIdempotent: idempotent.has(method),
      resolve: () => resolve(sandboxId, call),
      attempt: async function* attempt(address) {
        using host = hosts.use(address);
        yield* host.peer.call(method, request, within(call, Infinity));
      },
    });
  };
}

function sandboxIdOf(request: Message): string {
  return requireSandboxId((request as Message & { readonly sandboxId: string }).sandboxId);
}

async function onlyAnswer(answers: AsyncIterable<Message>): Promise<Message> {
  for await (const answer of answers) return answer;
  throw new WrennError('INTERNAL', 'the callee ended without an answer');
}
