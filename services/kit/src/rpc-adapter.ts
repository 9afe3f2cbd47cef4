// Makes nice-grpc definitions of protobuf-es services: the only place where the two meet.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, DescMethod, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import type { MethodDefinition, ServiceDefinition } from 'nice-grpc';

import { hasOwnWireTypes } from './wire-types.ts';

type MethodKind = 'unary' | 'server_streaming' | 'client_streaming' | 'bidi_streaming';
interface MethodTypes {
  methodKind: MethodKind;
  input: DescMessage;
  output: DescMessage;
}

type RpcMethod<M extends MethodTypes> = MethodDefinition<
  MessageInitShape<M['input']>,
  MessageShape<M['input']>,
  MessageInitShape<M['output']>,
  MessageShape<M['output']>,
  M['methodKind'] extends 'client_streaming' | 'bidi_streaming' ? true : false,
  M['methodKind'] extends 'server_streaming' | 'bidi_streaming' ? true : false
>;

export type RpcDefinition<S extends GenServiceMethods> = { [Name in keyof S]: RpcMethod<S[Name]> };

export function rpcDefinition<S extends GenServiceMethods>(service: GenService<S>): RpcDefinition<S> {
  const descriptor: DescService = service;
  const definition: ServiceDefinition = {};
  for (const method of descriptor.methods) definition[method.localName] = rpcMethod(descriptor, method);
  return definition as RpcDefinition<S>;
}

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
// caller's fault, so malformedInterceptor answers it instead, and no handler ever sees it.
export class MalformedRequest {
  readonly typeName: string;

  constructor(typeName: string) {
    this.typeName = typeName;
  }
}

const serializer = (schema: DescMessage) => (message: MessageInitShape<DescMessage>) =>
  toBinary(schema, create(schema, message));
const deserializer = (schema: DescMessage) => (bytes: Uint8Array) => fromBinary(schema, bytes);
const requestDeserializer = (schema: DescMessage) => (bytes: Uint8Array) => {
  try {
    return hasOwnWireTypes(schema, bytes) ? fromBinary(schema, bytes) : new MalformedRequest(schema.typeName);
  } catch {
    return new MalformedRequest(schema.typeName) as never; // The bytes are the caller's: nothing of them is worth keeping.
  }
};
