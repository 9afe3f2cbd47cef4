// Composition root of the trace keeper: the last traces of a mesh that has no collector.
import { readConfig } from '@wrenn/kit/config';
import { openLog } from '@wrenn/kit/log';
import { processMetrics } from '@wrenn/kit/metrics/process-metrics';
import { serveOperators } from '@wrenn/kit/operator-side';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { Shutdown, runService } from '@wrenn/kit/shutdown';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { TraceService } from '@wrenn/proto/wrenn/v1/trace';

import { OtlpIntake } from './adapters/otlp-intake.ts';
import { traceKeeperShape } from './config.ts';
import { TraceBook } from './domain/trace-book.ts';
import { spansOf } from './messages.ts';
import { countTraces } from './metrics.ts';
import { traceHandlers } from './server.ts';

await runService(async () => {
  const config = readConfig(traceKeeperShape, process.env);
  const log = openLog('trace-keeper', config.logLevel);
  await using stop = new Shutdown(log);
  // Where it is started by hand with a collector for its own spans; under `wrenn up` it makes none.
  stop.own('telemetry', startTelemetry('trace-keeper', process.env));
  const { maxBytes, maxTraces } = config;
  const book = new TraceBook({ maxBytes, maxTraces });
  const intake = stop.own('intake', new OtlpIntake((bytes) => book.add(spansOf(bytes)), log));
  countTraces(processMetrics, book, intake);
  const rpc = new RpcServer({ log });
  rpc.add(TraceService, traceHandlers(book));
  stop.own('operator side', await serveOperators({ config, log, isServing: () => rpc.isServing }));
  await intake.listen(config.intakeListen);
  await rpc.listen(config.listen);
  stop.own('rpc server', rpc);
  rpc.ready();
  await stop.onSignal();
});
