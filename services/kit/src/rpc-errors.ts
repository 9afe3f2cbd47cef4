// Errors on the wire: a gRPC status whose details hold google.rpc.ErrorInfo. Causes stay in the log.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { anyPack, anyUnpack } from '@bufbuild/protobuf/wkt';
import { ErrorInfoSchema } from '@wrenn/proto/google/rpc/error_details';
import { StatusSchema } from '@wrenn/proto/google/rpc/status';
import { isAbortError } from 'abort-controller-x';
import { ClientError, type Metadata, ServerError, Status } from 'nice-grpc-common';

import { WrennError, codeOf, isReason, messageOf, type Reason } from './errors.ts';

export const errorDomain = 'wrenn';

// How a callee outside the mesh, with an ErrorInfo domain of its own, names what we have reasons for.
export interface PeerReasons {
  readonly domain: string;
  readonly reasons: Readonly<Record<string, Reason>>;
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
      const translated = info?.domain === peerReasons?.domain ? peerReasons?.reasons[info?.reason ?? ''] : undefined;
      if (translated) return { reason: translated, meta: {} };
    }
  } catch (error) {
    return { reason: 'INTERNAL', meta: { details: `unreadable: ${messageOf(error)}` } };
  }
  return undefined;
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
