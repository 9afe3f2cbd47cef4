// One plain HTTP request to an agent, on a connection of its own that ends with it. The agent may answer
// anything: heads are bounded by Node's parser, failures are read up to a bound, a cut shows as an error.
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { connect } from 'node:net';

import { WrennError, messageOf } from '@wrenn/kit/errors';
import { translate } from '@wrenn/kit/rpc-errors';

import { type AgentConnection, agentPort, printable } from './agent-connection.ts';
import { agentReasons } from './agent-reasons.ts';

export interface AgentRequest {
  readonly method: 'GET' | 'POST';
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
}

const connectLimitMs = 5000;
const maxFailureBytes = 16 * 1024;
// What is taken from the socket at once, and so the largest piece that is passed on.
const readBytes = 256 * 1024;

export class AgentExchange implements Disposable {
  readonly request: ClientRequest;
  // Rejects when the connection fails or is cut before the head has come.
  readonly response: Promise<IncomingMessage>;
  readonly #connection: AgentConnection;

  constructor(connection: AgentConnection, { method, target, headers }: AgentRequest, signal: AbortSignal) {
    this.#connection = connection;
    const host = connection.address;
    this.request = httpRequest({
      method,
      path: target,
      host,
      headers: { Host: `${host}:${agentPort}`, 'X-Access-Token': connection.accessToken, ...headers },
      signal: connection.bounded(signal),
      createConnection: () => {
        const options = { host, port: agentPort, noDelay: true, highWaterMark: readBytes };
        const socket = connect(options);
        const timer = setTimeout(() => socket.destroy(new Error('no connection in time')), connectLimitMs);
        return socket.once('connect', () => clearTimeout(timer)).once('close', () => clearTimeout(timer));
      },
    });
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    promise.catch(() => undefined); // Whoever waits for it gets it.
    this.response = promise;
    this.request.on('response', resolve);
    // One that is destroyed tells so by its close alone.
    this.request.on('error', reject).on('close', () => reject(new Error('the connection was closed')));
  }

  // As a caller is told of it: what went wrong on the way here, and whose fault it was.
  failure(error: unknown, caller: AbortSignal): unknown {
    if (error instanceof WrennError || this.#connection.gone.aborted) return this.#connection.translated(error);
    if (caller.aborted) return new WrennError('CANCELLED', 'the caller left', { cause: error });
    const code = String((error as NodeJS.ErrnoException).code ?? '');
    const isGarbage = code.startsWith('HPE_') || code === 'HEADERS_OVERFLOW';
    const message = `the guest agent: ${printable(messageOf(error))}`;
    return new WrennError(isGarbage ? 'AGENT_MISBEHAVED' : 'AGENT_UNREACHABLE', message, { cause: error });
  }

  [Symbol.dispose](): void {
    // Its end is known already; what a socket says while it is cut is not.
    this.request.on('error', () => undefined).destroy();
  }
}

// The error that an answer other than a success tells.
export async function refusalOf(response: IncomingMessage): Promise<WrennError> {
  const { statusCode } = response;
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    pieces.push(piece);
    size += piece.length;
    if (size > maxFailureBytes) break;
  }
  const told = parsed(Buffer.concat(pieces).toString('utf8'));
  const known = translate(agentReasons, told.reason);
  if (known) return new WrennError(known.reason, printable(told.message), { meta: known.meta });
  return new WrennError('AGENT_MISBEHAVED', `the agent answered with ${statusCode}: ${printable(told.message)}`);
}

function parsed(text: string): { reason: string; message: string } {
  try {
    const { reason, message } = JSON.parse(text) as Record<string, unknown>;
    return { reason: typeof reason === 'string' ? reason : '', message: typeof message === 'string' ? message : '' };
  } catch {
    // Not what the agent says; its status must do.
    return { reason: '', message: '' };
  }
}
