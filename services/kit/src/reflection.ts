// Server reflection, v1 and the identical v1alpha that older tools still ask for, from the descriptors
// that the generated code carries.
import { type DescFile, type DescMessage, type DescService, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { ServerReflection as ReflectionV1 } from '@wrenn/proto/grpc/reflection/v1/reflection';
import { ServerReflection as ReflectionV1Alpha } from '@wrenn/proto/grpc/reflection/v1alpha/reflection';
import { Status } from 'nice-grpc-common';

import type { RpcHandlers } from './rpc-server.ts';

type Handlers = RpcHandlers<typeof ReflectionV1.method>;

export interface ReflectionService {
  readonly service: GenService<GenServiceMethods>;
  readonly handlers: RpcHandlers<typeof ReflectionV1.method> | RpcHandlers<typeof ReflectionV1Alpha.method>;
}

export function reflectionServices(services: readonly DescService[]): ReflectionService[] {
  const all = [...services, ReflectionV1, ReflectionV1Alpha];
  const index = new DescriptorIndex(all);
  return [
    { service: ReflectionV1, handlers: { serverReflectionInfo: answers(index) } },
    // The two versions differ in package name only, so one set of answers serves both.
    { service: ReflectionV1Alpha, handlers: { serverReflectionInfo: answers(index) as never } },
  ];
}

function answers(index: DescriptorIndex): Handlers['serverReflectionInfo'] {
  return async function* serverReflectionInfo(requests) {
    for await (const request of requests) {
      yield {
        validHost: request.host,
        originalRequest: request,
        messageResponse: index.answer(request.messageRequest),
      };
    }
  };
}

type Query = { case: string | undefined; value?: unknown };

class DescriptorIndex {
  readonly #services: string[];
  readonly #files = new Map<string, DescFile>();
  readonly #fileOfSymbol = new Map<string, DescFile>();

  constructor(services: readonly DescService[]) {
    this.#services = services.map((service) => service.typeName).sort();
    for (const service of services) this.#addFile(service.file);
  }

  answer(query: Query) {
    switch (query.case) {
      case 'listServices':
        return {
          case: 'listServicesResponse' as const,
          value: { service: this.#services.map((name) => ({ name })) },
        };
      case 'fileByFilename':
        return fileAnswer(this.#files.get(String(query.value)), query);
      case 'fileContainingSymbol':
        return fileAnswer(this.#fileOfSymbol.get(String(query.value)), query);
      case 'fileContainingExtension':
      case 'allExtensionNumbersOfType':
        return notFound('no extensions are declared here');
      default:
        return errorAnswer(Status.INVALID_ARGUMENT, 'the request asks for nothing');
    }
  }

  #addFile(file: DescFile): void {
    const name = file.proto.name;
    if (this.#files.has(name)) return;
    this.#files.set(name, file);
    for (const dependency of file.dependencies) this.#addFile(dependency);
    for (const service of file.services) {
      this.#fileOfSymbol.set(service.typeName, file);
      for (const method of service.methods) this.#fileOfSymbol.set(`${service.typeName}.${method.name}`, file);
    }
    for (const type of file.enums) this.#fileOfSymbol.set(type.typeName, file);
    for (const message of file.messages) this.#addMessage(message, file);
  }

  #addMessage(message: DescMessage, file: DescFile): void {
    this.#fileOfSymbol.set(message.typeName, file);
    for (const field of message.fields) this.#fileOfSymbol.set(`${message.typeName}.${field.name}`, file);
    for (const type of message.nestedEnums) this.#fileOfSymbol.set(type.typeName, file);
    for (const nested of message.nestedMessages) this.#addMessage(nested, file);
  }
}

// Sends a file with all its imports, so that a client resolves it in one round trip.
function fileAnswer(file: DescFile | undefined, query: Query) {
  if (!file) return notFound(`unknown: ${String(query.value).slice(0, 200)}`);
  const bytes = withImports(file).map((each) => toBinary(FileDescriptorProtoSchema, each.proto));
  return { case: 'fileDescriptorResponse' as const, value: { fileDescriptorProto: bytes } };
}

function withImports(file: DescFile, seen = new Set<DescFile>()): DescFile[] {
  if (!seen.has(file)) {
    seen.add(file);
    for (const dependency of file.dependencies) withImports(dependency, seen);
  }
  return [...seen];
}

const notFound = (message: string) => errorAnswer(Status.NOT_FOUND, message);
const errorAnswer = (errorCode: number, errorMessage: string) => ({
  case: 'errorResponse' as const,
  value: { errorCode, errorMessage },
});
