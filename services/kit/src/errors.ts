// The closed set of reasons a call can fail for. Clients branch on the reason, never on the text.
// What stands beside each becomes docs/errors.md (`node tools/docs/errors.ts`), which `make check` compares.
import { Status } from 'nice-grpc-common';

export const codeOf = {
  INVALID_FIELD: Status.INVALID_ARGUMENT, // A field of the request is out of its bounds; meta `field` names it. Do: correct the request.
  USER_NOT_FOUND: Status.INVALID_ARGUMENT, // The guest has no user of that name. Do: name another user, or none for the template's default.
  CWD_NOT_FOUND: Status.INVALID_ARGUMENT, // The working directory is not there in the guest. Do: make it, or name another.
  SANDBOX_NOT_FOUND: Status.NOT_FOUND, // No sandbox has that id, or its record is over a day old. Do: look at List.
  TEMPLATE_NOT_FOUND: Status.NOT_FOUND, // No template has that name. Do: use one that is registered, or register it.
  IMAGE_NOT_FOUND: Status.NOT_FOUND, // The host's store has no such image. Do: import it on that host.
  SOURCE_NOT_FOUND: Status.NOT_FOUND, // The file to import is not there. Do: correct its path on the store's host.
  PROCESS_NOT_FOUND: Status.NOT_FOUND, // No process has that pid or tag, or it ended over a minute ago. Do: look at List of ProcessService.
  COMMAND_NOT_FOUND: Status.NOT_FOUND, // The command is no file in the guest, nor in its PATH. Do: correct the command, or install it in the guest.
  PATH_NOT_FOUND: Status.NOT_FOUND, // Nothing is at that path in the guest. Do: correct the path.
  SNAPSHOT_NOT_FOUND: Status.NOT_FOUND, // No snapshot has that name or id. Do: look at List of SnapshotService.
  TRACE_NOT_FOUND: Status.NOT_FOUND, // No trace with that id is kept any more. Do: look at List of TraceService.
  DISK_NOT_FOUND: Status.NOT_FOUND, // The store has no disk of that id. Do: nothing: its sandbox is gone.
  VM_EXISTS: Status.ALREADY_EXISTS, // The host has a VM of that sandbox already. Do: nothing: the scheduler sets it right.
  DISK_EXISTS: Status.ALREADY_EXISTS, // The store has a disk of that id already. Do: delete it first.
  SNAPSHOT_EXISTS: Status.ALREADY_EXISTS, // A snapshot or template has that name already. Do: take another name, or delete it first.
  PATH_EXISTS: Status.ALREADY_EXISTS, // Something is at that path already. Do: take another path, or remove what is there.
  REQUEST_ID_REUSED: Status.ALREADY_EXISTS, // The request_id stands for another request of the last 24 h. Do: give each request an id of its own.
  SANDBOX_NOT_RUNNING: Status.FAILED_PRECONDITION, // The sandbox is being made, is paused, is over, or failed; meta `state` says which. Do: resume it if it is paused, else create another one.
  SNAPSHOT_CORRUPT: Status.DATA_LOSS, // A file of the snapshot is missing or damaged; meta names file and generation. Do: repair it on its host, or restore an older one.
  SNAPSHOT_INCOMPATIBLE: Status.FAILED_PRECONDITION, // The host is not what the snapshot was made on; meta names both. Do: restore it where it was made.
  SNAPSHOT_IN_USE: Status.FAILED_PRECONDITION, // Sandboxes are being made from the snapshot right now. Do: try again when they run.
  IMAGE_CORRUPT: Status.DATA_LOSS, // The image in the store is not what was imported. Do: import it again.
  IMAGE_IN_USE: Status.FAILED_PRECONDITION, // Disks of sandboxes need the image. Do: destroy those sandboxes first.
  COMMAND_NOT_EXECUTABLE: Status.FAILED_PRECONDITION, // The command is there, but the user may not run it. Do: set its mode, or run it by its interpreter.
  NOT_A_TERMINAL: Status.FAILED_PRECONDITION, // The process has no terminal. Do: use Connect and SendInput, or start another one by Attach.
  STDIN_CLOSED: Status.FAILED_PRECONDITION, // The process's stdin is closed, or it never had one. Do: start it with stdin.
  NOT_A_DIRECTORY: Status.FAILED_PRECONDITION, // A part of the path is no directory. Do: correct the path.
  IS_A_DIRECTORY: Status.FAILED_PRECONDITION, // A directory is where a file was meant. Do: correct the path.
  MOVE_REFUSED: Status.FAILED_PRECONDITION, // The entry cannot be renamed to there. Do: move within one filesystem, and no directory into itself.
  PATH_NOT_PERMITTED: Status.PERMISSION_DENIED, // The user in the guest may not do that there. Do: name another user, or set the mode.
  REPLAY_GONE: Status.OUT_OF_RANGE, // Output that old is not kept any more; meta names the oldest that is. Do: connect without `after_sequence`.
  STATE_CONFLICT: Status.ABORTED, // Somebody else changed the same thing meanwhile. Do: look at it again, then decide.
  NO_HOST_LEFT: Status.RESOURCE_EXHAUSTED, // No host has room; meta says what ran out and how much is free. Do: destroy some, wait with `queue_timeout`, or add a host.
  NO_SLOT_LEFT: Status.RESOURCE_EXHAUSTED, // The host has no network slot left. Do: try again; if it stays, raise the host's slots.
  DISK_FULL: Status.RESOURCE_EXHAUSTED, // The host's disk is full. Do: make room under its data directory.
  GUEST_EXHAUSTED: Status.RESOURCE_EXHAUSTED, // The guest has no memory, process or descriptor left. Do: end something in it, or create a larger one.
  GUEST_DISK_FULL: Status.RESOURCE_EXHAUSTED, // The guest's disk is full. Do: remove files in it, or create one with a larger disk.
  TOO_MANY_ENTRIES: Status.RESOURCE_EXHAUSTED, // The directory holds more than one answer can. Do: list it with a command in the guest.
  WATCH_OVERFLOW: Status.RESOURCE_EXHAUSTED, // Events of the watch were lost because the client read too slowly. Do: list the directory and watch again.
  QUOTA_EXCEEDED: Status.RESOURCE_EXHAUSTED, // The project holds as much as it may; meta names resource, limit and use. Do: destroy some, wait with `queue_timeout`, or raise the quota.
  MESSAGE_TOO_LARGE: Status.RESOURCE_EXHAUSTED, // A message is over 4 MiB. Do: send less at once, or use a stream.
  VMM_START_FAILED: Status.UNAVAILABLE, // The virtual machine did not start; nothing of it is left. Do: try again; the cause is in the log of vm-runtime.
  GUEST_NOT_READY: Status.UNAVAILABLE, // The guest did not get ready in time; nothing of it is left. Do: try again; if it stays, look at its template.
  VMM_DIED: Status.UNAVAILABLE, // The sandbox's virtual machine ended; the sandbox is in error. Do: create another one.
  VMM_STUCK: Status.UNAVAILABLE, // The sandbox's virtual machine gives no answer; after 12 s of that it is given up. Do: try again, and look at the host's load if it stays.
  SANDBOX_PAUSED: Status.UNAVAILABLE, // The sandbox was paused meanwhile. Do: resume it, then connect to the process again.
  AGENT_UNREACHABLE: Status.UNAVAILABLE, // The agent in the guest does not answer. Do: try again; the guest may be overloaded.
  SERVICE_UNAVAILABLE: Status.UNAVAILABLE, // A service of the mesh is down, starting, silent, or out of descriptors. Do: try again, with a request_id where it creates.
  DATABASE_UNAVAILABLE: Status.UNAVAILABLE, // The database is down, or answered nothing for a second. Do: try again; running sandboxes go on.
  DEADLINE_EXCEEDED: Status.DEADLINE_EXCEEDED, // The deadline of the call passed before it was done. Do: allow more time; what was begun is undone, unless it has a request_id.
  CANCELLED: Status.CANCELLED, // The caller left, or the connection broke. Do: nothing, or call again.
  AGENT_MISBEHAVED: Status.INTERNAL, // The agent in the guest broke its protocol. Do: create another one: what runs there is not to be trusted.
  UNIMPLEMENTED: Status.UNIMPLEMENTED, // The callee does not know the method. Do: bring both sides to the same version.
  INTERNAL: Status.INTERNAL, // A fault of ours; meta `id` finds it in the log. Do: report it.
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
