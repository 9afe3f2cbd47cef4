// Makes nice-grpc definitions of protobuf-es services: the only place where the two meet.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, DescMethod, DescService, Message, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import type { MethodDefinition, ServiceDefinition } from 'nice-grpc';

import { hasOwnWireTypes } from './wire-types.ts';

type MethodKind = 'unary' | 'server_streaming' | 'client_streaming' | 'bidi_streaming';
interface MethodTypes {
  methodKind: MethodKind;
  input: DescMessage;
  output: DescMessage;
}

type RpcMethod<
  M extends MethodTypes,
  Answer = MessageShape<M['output']>,
  AnswerInit = MessageInitShape<M['output']>,
> = MethodDefinition<
  MessageInitShape<M['input']>,
  MessageShape<M['input']>,
  AnswerInit,
  Answer,
  M['methodKind'] extends 'client_streaming' | 'bidi_streaming' ? true : false,
  M['methodKind'] extends 'server_streaming' | 'bidi_streaming' ? true : false
>;

export type RpcDefinition<S extends GenServiceMethods> = { [Name in keyof S]: RpcMethod<S[Name]> };
export type PassingDefinition<S extends GenServiceMethods> = {
  [Name in keyof S]: RpcMethod<S[Name], Uint8Array, Uint8Array>;
};

export function rpcDefinition<S extends GenServiceMethods>(service: GenService<S>): RpcDefinition<S> {
  return definitionOf(service, rpcMethod) as RpcDefinition<S>;
}

// For both sides of one who passes calls on: a request is read and goes on as the bytes it came as, and an answer is
// not even read. So what a newer client or callee adds to a message gets through, and nothing is encoded anew.
export function passingDefinition<S extends GenServiceMethods>(service: GenService<S>): PassingDefinition<S> {
  return definitionOf(service, passingMethod) as PassingDefinition<S>;
}

function definitionOf(
  service: DescService,
  methodOf: (service: DescService, method: DescMethod) => ServiceDefinition[string],
): ServiceDefinition {
  const definition: ServiceDefinition = {};
  for (const method of service.methods) definition[method.localName] = methodOf(service, method);
  return definition;
}

function passingMethod(service: DescService, method: DescMethod) {
  return {
    ...rpcMethod(service, method),
    requestSerialize: (message: Message) => bytesOf.get(message) ?? toBinary(method.input, message),
    requestDeserialize: keepingBytes(method.input),
    responseSerialize: asItIs,
    responseDeserialize: asItIs,
  };
}

const asItIs = (bytes: Uint8Array) => bytes;
const bytesOf = new WeakMap<Message, Uint8Array>();

// The encoding of its fields is looked at by the one it is for.
const keepingBytes = (schema: DescMessage) =>
  orMalformed(schema, (bytes) => {
    const message = fromBinary(schema, bytes);
    bytesOf.set(message, bytes);
    return message;
  });

function rpcMethod(service: DescService, method: DescMethod) {
  return {
    path: `/${service.typeName}/${method.name}`,
    requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
    responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
    requestSerialize: serializer(method.input),
    requestDeserialize: requestDeserializer(method.input),
    responseSerialize: serializer(method.output),
    responseDeserialize: deserializer(method.output),
    options: {},
  };
}

// Takes the place of a request that is no valid message. grpc-js would answer it with INTERNAL; it is the
// caller's fault, so inboundInterceptor answers it instead, and no handler ever sees it.
export class MalformedRequest {
  readonly typeName: string;

  constructor(typeName: string) {
    this.typeName = typeName;
  }
}

const serializer = (schema: DescMessage) => (message: MessageInitShape<DescMessage>) =>
  toBinary(schema, create(schema, message));
const deserializer = (schema: DescMessage) => (bytes: Uint8Array) => fromBinary(schema, bytes);
const requestDeserializer = (schema: DescMessage) =>
  orMalformed(schema, (bytes) => (hasOwnWireTypes(schema, bytes) ? fromBinary(schema, bytes) : undefined));

// Reads a request; what is none, by its reader's failure or word, is a MalformedRequest.
function orMalformed(schema: DescMessage, read: (bytes: Uint8Array) => Message | undefined) {
  return (bytes: Uint8Array) => {
    try {
      return read(bytes) ?? (new MalformedRequest(schema.typeName) as never);
    } catch {
      return new MalformedRequest(schema.typeName) as never; // The bytes are the caller's: nothing of them is worth keeping.
    }
  };
}
