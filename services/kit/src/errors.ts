// The closed set of reasons a call can fail for. Clients branch on the reason, never on the text.
import { Status } from 'nice-grpc-common';

export const codeOf = {
  INVALID_FIELD: Status.INVALID_ARGUMENT,
  USER_NOT_FOUND: Status.INVALID_ARGUMENT,
  CWD_NOT_FOUND: Status.INVALID_ARGUMENT,
  SANDBOX_NOT_FOUND: Status.NOT_FOUND,
  TEMPLATE_NOT_FOUND: Status.NOT_FOUND,
  IMAGE_NOT_FOUND: Status.NOT_FOUND,
  SOURCE_NOT_FOUND: Status.NOT_FOUND,
  PROCESS_NOT_FOUND: Status.NOT_FOUND,
  COMMAND_NOT_FOUND: Status.NOT_FOUND,
  PATH_NOT_FOUND: Status.NOT_FOUND,
  VM_EXISTS: Status.ALREADY_EXISTS,
  DISK_EXISTS: Status.ALREADY_EXISTS,
  PATH_EXISTS: Status.ALREADY_EXISTS,
  REQUEST_ID_REUSED: Status.ALREADY_EXISTS,
  SANDBOX_NOT_RUNNING: Status.FAILED_PRECONDITION,
  IMAGE_CORRUPT: Status.DATA_LOSS,
  IMAGE_IN_USE: Status.FAILED_PRECONDITION,
  COMMAND_NOT_EXECUTABLE: Status.FAILED_PRECONDITION,
  STDIN_CLOSED: Status.FAILED_PRECONDITION,
  NOT_A_DIRECTORY: Status.FAILED_PRECONDITION,
  IS_A_DIRECTORY: Status.FAILED_PRECONDITION,
  MOVE_REFUSED: Status.FAILED_PRECONDITION,
  PATH_NOT_PERMITTED: Status.PERMISSION_DENIED,
  REPLAY_GONE: Status.OUT_OF_RANGE,
  STATE_CONFLICT: Status.ABORTED,
  NO_HOST_LEFT: Status.RESOURCE_EXHAUSTED,
  NO_SLOT_LEFT: Status.RESOURCE_EXHAUSTED,
  DISK_FULL: Status.RESOURCE_EXHAUSTED,
  GUEST_EXHAUSTED: Status.RESOURCE_EXHAUSTED,
  GUEST_DISK_FULL: Status.RESOURCE_EXHAUSTED,
  TOO_MANY_ENTRIES: Status.RESOURCE_EXHAUSTED,
  WATCH_OVERFLOW: Status.RESOURCE_EXHAUSTED,
  QUOTA_EXCEEDED: Status.RESOURCE_EXHAUSTED,
  MESSAGE_TOO_LARGE: Status.RESOURCE_EXHAUSTED,
  VMM_START_FAILED: Status.UNAVAILABLE,
  GUEST_NOT_READY: Status.UNAVAILABLE,
  VMM_DIED: Status.UNAVAILABLE,
  AGENT_UNREACHABLE: Status.UNAVAILABLE,
  SERVICE_UNAVAILABLE: Status.UNAVAILABLE,
  DATABASE_UNAVAILABLE: Status.UNAVAILABLE,
  DEADLINE_EXCEEDED: Status.DEADLINE_EXCEEDED,
  CANCELLED: Status.CANCELLED,
  AGENT_MISBEHAVED: Status.INTERNAL,
  UNIMPLEMENTED: Status.UNIMPLEMENTED,
  INTERNAL: Status.INTERNAL,
} as const satisfies Record<string, Status>;

export type Reason = keyof typeof codeOf;

export interface WrennErrorOptions {
  readonly cause?: unknown;
  // Facts a client can act on, like the name of the offending field. Sent over the wire.
  readonly meta?: Readonly<Record<string, string>>;
}

export class WrennError extends Error {
  readonly reason: Reason;
  readonly meta: Readonly<Record<string, string>>;

  constructor(reason: Reason, message: string, options: WrennErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'WrennError';
    this.reason = reason;
    this.meta = options.meta ?? {};
  }
}

export function isReason(text: string): text is Reason {
  return Object.hasOwn(codeOf, text);
}

export function hasReason(error: unknown, ...reasons: readonly Reason[]): error is WrennError {
  return error instanceof WrennError && reasons.includes(error.reason);
}

export function invalidField(field: string, problem: string): WrennError {
  return new WrennError('INVALID_FIELD', `${field}: ${problem}`, { meta: { field } });
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
