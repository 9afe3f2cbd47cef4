import { systemClock } from '@wrenn/kit/clock';
import { readConfig } from '@wrenn/kit/config';
import { armFailpoints } from '@wrenn/kit/failpoint';
import { openLog } from '@wrenn/kit/log';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { runProgram } from '@wrenn/kit/run-program';
import { Shutdown, runService } from '@wrenn/kit/shutdown';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import { Qcow2Overlay } from './adapters/qcow2-overlay.ts';
import { StoreDirectory } from './adapters/store-directory.ts';
import { StoredDisks } from './adapters/stored-disks.ts';
import { StoredImages } from './adapters/stored-images.ts';
import { snapshotStoreShape } from './config.ts';
import { SnapshotStore } from './domain/snapshot-store.ts';
import { snapshotStoreHandlers } from './server.ts';

await runService(async () => {
  // VMMs run under uids of their own and must reach their files through our directories.
  process.umask(0o022);
  const config = readConfig(snapshotStoreShape, process.env);
  const log = openLog('snapshot-store', config.logLevel);
  armFailpoints(config, log);
  const stop = new Shutdown(log);
  stop.own('telemetry', startTelemetry('snapshot-store', process.env.OTEL_EXPORTER_OTLP_ENDPOINT));
  const directory = stop.own('data directory', await StoreDirectory.open(config.dataDir));
  const images = new StoredImages({ directory, run: runProgram, clock: systemClock });
  const disks = new StoredDisks({ directory, backend: new Qcow2Overlay(runProgram), clock: systemClock });
  const store = new SnapshotStore({ images, disks, log });
  await store.open();
  const rpc = new RpcServer({ log, deadlinesMs: { 'SnapshotStoreService/ImportImage': 600_000 } });
  rpc.add(SnapshotStoreService, snapshotStoreHandlers(store));
  await rpc.listen(config.listen);
  stop.own('rpc server', rpc);
  rpc.ready();
  await stop.onSignal();
});
