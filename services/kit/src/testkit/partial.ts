import type { DescService } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';

import { WrennError } from '../errors.ts';
import type { RpcHandlers } from '../rpc-server.ts';

// The handlers a test needs of a service; the others answer UNIMPLEMENTED.
export function partialHandlers<S extends GenServiceMethods>(
  service: GenService<S>,
  handlers: Partial<RpcHandlers<S>>,
): RpcHandlers<S> {
  const all: Record<string, unknown> = {};
  for (const { localName, methodKind } of (service as DescService).methods) {
    const refuse = () => {
      throw new WrennError('UNIMPLEMENTED', `this test serves no ${localName}`);
    };
    all[localName] =
      methodKind === 'server_streaming' || methodKind === 'bidi_streaming'
        ? // oxlint-disable-next-line require-yield
          async function* refused() {
            refuse();
          }
        : async () => refuse();
  }
  return { ...all, ...handlers } as RpcHandlers<S>;
}
