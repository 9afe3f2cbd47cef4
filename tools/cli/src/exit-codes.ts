// What the command line's exit codes mean. `exec` and `run` return the command's own code instead.
import { type WrennError, hasReason } from '@wrenn/kit/errors';

export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 2,
  unreachable: 69, // sysexits' EX_UNAVAILABLE
  timeout: 124, // as timeout(1)
} as const;

export class UsageError extends Error {
  override readonly name = 'UsageError';
}

// A command that already told what went wrong ends with this.
export class ExitError extends Error {
  override readonly name = 'ExitError';
  readonly code: number;

  constructor(code: number, message = '') {
    super(message);
    this.code = code;
  }
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof ExitError) return error.code;
  if (error instanceof UsageError) return exitCodes.usage;
  if (hasReason(error, 'SERVICE_UNAVAILABLE')) return exitCodes.unreachable;
  if (hasReason(error, 'DEADLINE_EXCEEDED')) return exitCodes.timeout;
  if (hasReason(error, 'INVALID_FIELD')) return exitCodes.usage;
  return exitCodes.failure;
}

// One line for people; a reason that clients branch on comes along in brackets.
export function describeError(error: unknown, gateway: string): string {
  if (isGatewaySilent(error)) {
    return `the mesh does not answer at ${gateway}; start it with \`wrenn up\` (or name another with --gateway)`;
  }
  if (isWrennError(error)) return `${error.message} [${error.reason}]`;
  return error instanceof Error ? error.message : String(error);
}

export const gatewayPeer = 'the gateway';

// An answer of the gateway has its own text; a connection that never was bears the peer's name.
function isGatewaySilent(error: unknown): boolean {
  return hasReason(error, 'SERVICE_UNAVAILABLE') && error.message.startsWith(`${gatewayPeer}: `);
}

function isWrennError(error: unknown): error is WrennError {
  return error instanceof Error && error.name === 'WrennError';
}
