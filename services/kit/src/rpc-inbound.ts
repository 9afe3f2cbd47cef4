import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
} from '@grpc/grpc-js';

import { handOnDeadline } from './deadlines.ts';
import { codeOf, invalidField } from './errors.ts';
import { MalformedRequest } from './rpc-adapter.ts';
import { detailsKey, statusDetails } from './rpc-errors.ts';

// What of a call nice-grpc does not show to handlers, and must not: its deadline, and bytes that are no message.
export const inboundInterceptor: ServerInterceptor = (_method, call) =>
  new ServerInterceptingCall(call, {
    start(next) {
      next({
        onReceiveMetadata(metadata, pass) {
          handOnDeadline(metadata, call.getDeadline());
          pass(metadata);
        },
        onReceiveMessage(message: unknown, pass: (message: unknown) => void) {
          if (message instanceof MalformedRequest) refuse(call, message);
          else pass(message);
        },
      });
    },
  });

// Bytes that are no message of the rpc's request type: INVALID_ARGUMENT(INVALID_FIELD).
function refuse(call: ServerInterceptingCallInterface, { typeName }: MalformedRequest): void {
  const error = invalidField('request', `not a valid ${typeName} message`);
  const metadata = new Metadata();
  metadata.set(detailsKey, Buffer.from(statusDetails(error)));
  call.sendStatus({ code: codeOf[error.reason], details: error.message, metadata });
}
