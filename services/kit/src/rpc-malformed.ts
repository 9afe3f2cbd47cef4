import { Metadata, ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';

import { codeOf, invalidField } from './errors.ts';
import { MalformedRequest } from './rpc-adapter.ts';
import { detailsKey, statusDetails } from './rpc-errors.ts';

// Answers bytes that are no message of the rpc's request type with INVALID_ARGUMENT(INVALID_FIELD).
export const malformedInterceptor: ServerInterceptor = (_method, call) =>
  new ServerInterceptingCall(call, {
    start(next) {
      next({
        onReceiveMessage(message: unknown, pass: (message: unknown) => void) {
          if (!(message instanceof MalformedRequest)) {
            pass(message);
            return;
          }
          const error = invalidField('request', `not a valid ${message.typeName} message`);
          const metadata = new Metadata();
          metadata.set(detailsKey, Buffer.from(statusDetails(error)));
          call.sendStatus({ code: codeOf[error.reason], details: error.message, metadata });
        },
      });
    },
  });
