// A whole service as small as one can be, for the tests of its life as a process.
import { setTimeout as sleep } from 'node:timers/promises';

import { LogService } from '@wrenn/proto/wrenn/v1/log';

import { commonShape, readConfig, rpcAddress, wholeNumber } from '../src/config.ts';
import { openLog } from '../src/log.ts';
import { RpcServer } from '../src/rpc-server.ts';
import { Shutdown, runService } from '../src/shutdown.ts';
import { partialHandlers } from '../src/testkit/partial.ts';

await runService(async () => {
  const config = readConfig({ ...commonShape, listen: rpcAddress(), workMs: wholeNumber(0, 60_000) }, process.env);
  const log = openLog('fixture', config.logLevel);
  await using stop = new Shutdown(log);
  const server = stop.own('rpc server', new RpcServer({ log, drainMs: 3000 }));
  server.add(
    LogService,
    partialHandlers(LogService, {
      readConsole: async () => {
        log.info('working');
        await sleep(config.workMs);
        return { console: Buffer.from('done') };
      },
    }),
  );
  await server.listen(config.listen);
  server.ready();
  await stop.onSignal();
});
