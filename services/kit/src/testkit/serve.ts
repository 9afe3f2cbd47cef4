import { join } from 'node:path';

import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';

import { Lanes } from '../lanes.ts';
import { openLog } from '../log.ts';
import { type RpcHandlers, RpcServer } from '../rpc-server.ts';
import { partialHandlers } from './partial.ts';
import { tempDir } from './temp-dir.ts';

export interface TestServer extends AsyncDisposable {
  readonly address: string;
  readonly lanes: Lanes;
}

// Serves handlers over real gRPC on a unix socket for one test; what it needs none of answers UNIMPLEMENTED.
// `addMore` adds other services to it.
export async function serveForTest<S extends GenServiceMethods>(
  service: GenService<S>,
  handlers: Partial<RpcHandlers<S>>,
  addMore: (server: RpcServer) => void = () => undefined,
): Promise<TestServer> {
  const dir = await tempDir();
  const server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 200 });
  server.add(service, partialHandlers(service, handlers));
  addMore(server);
  const address = `unix:${join(dir.path, 'rpc.sock')}`;
  await server.listen(address);
  server.ready();
  const lanes = new Lanes(address, 'test service');
  return {
    address,
    lanes,
    async [Symbol.asyncDispose]() {
      lanes.close();
      await server.close();
      await dir[Symbol.asyncDispose]();
    },
  };
}
