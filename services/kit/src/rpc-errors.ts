// Errors on the wire: a gRPC status whose details hold google.rpc.ErrorInfo. Causes stay in the log.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { anyPack, anyUnpack } from '@bufbuild/protobuf/wkt';
import { ErrorInfoSchema } from '@wrenn/proto/google/rpc/error_details';
import { StatusSchema } from '@wrenn/proto/google/rpc/status';
import { isAbortError } from 'abort-controller-x';
import { ClientError, type Metadata, ServerError, Status } from 'nice-grpc-common';

import { WrennError, codeOf, isReason, messageOf, type Reason } from './errors.ts';
import { noteRecorded } from './telemetry/failures.ts';

export const errorDomain = 'wrenn';

// How a callee outside the mesh, with an ErrorInfo domain of its own, names what we have reasons for.
export interface PeerReasons {
  readonly domain: string;
  readonly reasons: Readonly<Record<string, Reason>>;
  // The field of our requests that a reason of the callee is about.
  readonly fields: Readonly<Record<string, string>>;
  // Facts that are passed on where they are numbers: texts of such a callee are not trusted.
  readonly numbers: readonly string[];
}
export const detailsKey = 'grpc-status-details-bin';
// A trailer above 64 KiB would break the connection, and the message travels twice in it.
const maxMessageLength = 2000;
const maxMetaLength = 500;

// Turns a domain error into the status to answer with, writing its details to the trailer.
export function toServerError(error: WrennError, trailer: Metadata): ServerError {
  trailer.set(detailsKey, statusDetails(error));
  return new ServerError(codeOf[error.reason], sendable(error.message, maxMessageLength));
}

export function statusDetails(error: WrennError): Uint8Array {
  const meta = Object.entries(error.meta).map(([name, value]) => [name, sendable(value, maxMetaLength)]);
  const info = create(ErrorInfoSchema, {
    reason: error.reason,
    domain: errorDomain,
    metadata: Object.fromEntries(meta) as Record<string, string>,
  });
  const status = create(StatusSchema, {
    code: codeOf[error.reason],
    message: sendable(error.message, maxMessageLength),
    details: [anyPack(ErrorInfoSchema, info)],
  });
  return toBinary(StatusSchema, status);
}

// Half a surrogate pair, which cutting a text can leave, makes grpc-js throw while it answers.
export function sendable(text: string, maxLength = maxMessageLength): string {
  return text.slice(0, maxLength).toWellFormed();
}

// Gives a failed outbound call its reason back: the callee's own where it sent one, else one that
// follows from the status code. `peer` names the callee in messages.
export function fromClientError(
  error: unknown,
  trailer: Metadata | undefined,
  peer: string,
  peerReasons?: PeerReasons,
): unknown {
  if (isAbortError(error)) return new WrennError('CANCELLED', `the call to ${peer} was cancelled`, { cause: error });
  if (!(error instanceof ClientError)) return error;
  const info = trailer && readErrorInfo(trailer, peerReasons);
  // What a part of the mesh refused is in that part's span already.
  if (info && !peerReasons) noteRecorded(error);
  if (info) return new WrennError(info.reason, error.details, { cause: error, meta: info.meta });
  return new WrennError(reasonOfCode(error.code), `${peer}: ${error.details}`, { cause: error });
}

function readErrorInfo(
  trailer: Metadata,
  peerReasons: PeerReasons | undefined,
): { reason: Reason; meta: Record<string, string> } | undefined {
  const raw = trailer.get(detailsKey);
  if (!(raw instanceof Uint8Array)) return undefined;
  try {
    for (const detail of fromBinary(StatusSchema, raw).details) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info?.domain === errorDomain && !peerReasons && isReason(info.reason)) {
        return { reason: info.reason, meta: info.metadata };
      }
      const known = info && peerReasons && info.domain === peerReasons.domain;
      const translated = known && translate(peerReasons, info.reason, info.metadata);
      if (translated) return translated;
    }
  } catch (error) {
    return { reason: 'INTERNAL', meta: { details: `unreadable: ${messageOf(error)}` } };
  }
  return undefined;
}

// What a callee with reasons of its own means by one of them; undefined for one that has no name here.
export function translate(
  { reasons, fields, numbers }: PeerReasons,
  told: string,
  facts: Readonly<Record<string, string>> = {},
): { reason: Reason; meta: Record<string, string> } | undefined {
  const reason = Object.hasOwn(reasons, told) ? reasons[told] : undefined;
  if (!reason) return undefined;
  const field = Object.hasOwn(fields, told) ? fields[told] : undefined;
  const passed = numbers.filter((name) => /^\d{1,20}$/.test(facts[name] ?? ''));
  const meta = Object.fromEntries(passed.map((name) => [name, facts[name] ?? '']));
  return { reason, meta: field === undefined ? meta : { ...meta, field } };
}

function reasonOfCode(code: Status): Reason {
  switch (code) {
    case Status.UNAVAILABLE:
      return 'SERVICE_UNAVAILABLE';
    case Status.DEADLINE_EXCEEDED:
      return 'DEADLINE_EXCEEDED';
    case Status.CANCELLED:
      return 'CANCELLED';
    case Status.UNIMPLEMENTED:
      return 'UNIMPLEMENTED';
    case Status.RESOURCE_EXHAUSTED:
      return 'MESSAGE_TOO_LARGE';
    default:
      return 'INTERNAL';
  }
}
