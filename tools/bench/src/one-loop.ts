// What a mesh would be without isolation: public API, terminals, file contents and the edge in one process, on one
// event loop, put together from the very parts that a mesh has. Usage: one-loop.ts VMS_DIRECTORY; it serves
// the sandboxes that a mesh's journal there knows, at the edge this machine as any other, and tells its own two ports
// on stdout. For measuring, not for use.
import { givePrecedence } from '@wrenn/cli/mesh/precedence';
import { WrennError } from '@wrenn/kit/errors';
import { openLog } from '@wrenn/kit/log';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';

import { AgentConnection } from '../../../services/vm-runtime/src/adapters/agent-connection.ts';
import { GrpcAgentDialer } from '../../../services/vm-runtime/src/adapters/grpc-guest-agent.ts';
import { GrpcGuestFiles } from '../../../services/vm-runtime/src/adapters/grpc-guest-files.ts';
import { HttpGuestBytes } from '../../../services/vm-runtime/src/adapters/http-guest-bytes.ts';
import { VmJournal } from '../../../services/vm-runtime/src/adapters/vm-journal.ts';
import type { RunningVm } from '../../../services/vm-runtime/src/domain/vm.ts';
import { filesystemHandlers } from '../../../services/vm-runtime/src/filesystem-server.ts';
import { processHandlers } from '../../../services/vm-runtime/src/process-server.ts';
import { serveEdge } from './edge-here.ts';

await givePrecedence(process.pid, 'commands'); // As what it stands for.
const [vmsDir = ''] = process.argv.slice(2);
const log = openLog('one-loop', 'warn');
const records = await new VmJournal(vmsDir, log).readAll();
const guests = new Map(
  records.flatMap((record) => {
    if (record.phase !== 'running') return [];
    const { guestAddress, accessToken } = record.facts;
    const connection = new AgentConnection(guestAddress, accessToken);
    const files = new GrpcGuestFiles(connection, 'interactive');
    const agent = new GrpcAgentDialer().dial(guestAddress, accessToken);
    return [[record.sandboxId as string, { guestAddress, agent, files, bytes: new HttpGuestBytes(connection, files) }]];
  }),
);

function guestOf(sandboxId: string) {
  const guest = guests.get(sandboxId);
  if (!guest) throw new WrennError('SANDBOX_NOT_FOUND', 'not here');
  return guest;
}

const rpc = new RpcServer({ log, bulkMethods: [FilesystemService.method.write] });
const serving = async (sandboxId: string) => ({ agent: guestOf(sandboxId).agent }) as unknown as RunningVm;
rpc.add(ProcessService, processHandlers({ serving }));
rpc.add(
  FilesystemService,
  filesystemHandlers({
    files: async (sandboxId) => guestOf(sandboxId).files,
    bytes: async (sandboxId) => guestOf(sandboxId).bytes,
    signUrl: async () => {
      throw new WrennError('UNIMPLEMENTED', 'not here');
    },
  }),
);
const edgePort = await serveEdge((id) => guests.get(id)?.guestAddress ?? '127.0.0.1');
const rpcPort = await rpc.listen('127.0.0.1:0');
rpc.ready();
process.stdout.write(`${JSON.stringify({ rpcPort, edgePort })}\n`);
