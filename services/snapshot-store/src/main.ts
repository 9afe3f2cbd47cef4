import { systemClock } from '@wrenn/kit/clock';
import { readConfig } from '@wrenn/kit/config';
import { armFailpoints } from '@wrenn/kit/failpoint';
import { openLog } from '@wrenn/kit/log';
import { OperationTimes } from '@wrenn/kit/metrics/operation-times';
import { processMetrics } from '@wrenn/kit/metrics/process-metrics';
import { serveOperators } from '@wrenn/kit/operator-side';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { runProgram } from '@wrenn/kit/run-program';
import { Shutdown, runService } from '@wrenn/kit/shutdown';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import { snapshotStoreShape } from './config.ts';
import { countStore } from './metrics.ts';
import { snapshotStoreHandlers, storeOperations } from './server.ts';
import { openStore } from './store.ts';

const minute = 60_000;
const deadlinesMs = {
  'SnapshotStoreService/ImportImage': 10 * minute,
  'SnapshotStoreService/GetSnapshot': 10 * minute,
  'SnapshotStoreService/OpenSnapshot': minute,
  'SnapshotStoreService/VerifySnapshot': 10 * minute,
  'SnapshotStoreService/RepairSnapshot': 10 * minute,
};

await runService(async () => {
  // VMMs run under uids of their own and must reach their files through our directories.
  process.umask(0o022);
  const config = readConfig(snapshotStoreShape, process.env);
  const log = openLog('snapshot-store', config.logLevel);
  armFailpoints(config, log);
  await using stop = new Shutdown(log);
  stop.own('telemetry', startTelemetry('snapshot-store', process.env));
  const { dataDir, ramDir } = config;
  const options = { dataDir, ramDir, commitRetryMs: minute, run: runProgram, clock: systemClock, log };
  const opened = stop.own('store', await openStore(options));
  const rpc = new RpcServer({ log, deadlinesMs });
  const times = new OperationTimes(processMetrics, 'snapshot_store');
  rpc.add(SnapshotStoreService, times.handlers(snapshotStoreHandlers(opened), storeOperations));
  countStore(processMetrics, { ...opened, dataDir, ramDir, clock: systemClock });
  stop.own('operator side', await serveOperators({ config, log, isServing: () => rpc.isServing }));
  await rpc.listen(config.listen);
  stop.own('rpc server', rpc);
  rpc.ready();
  await stop.onSignal();
});
