// What each process offers to those who operate it, apart from what it is there for: figures and health over HTTP, and,
// on a unix socket that only its own user may open, a word on what it logs.
import { LogLevelService } from '@wrenn/proto/wrenn/admin/v1/log_level';

import { logLevelHandlers } from './log-level.ts';
import type { Log, LogLevel } from './log.ts';
import { MetricsServer } from './metrics/metrics-server.ts';
import { measureProcess, processMetrics } from './metrics/process-metrics.ts';
import { RpcServer } from './rpc-server.ts';

export interface OperatorSideOptions {
  readonly config: { readonly metricsListen?: string | undefined; readonly adminListen?: string | undefined };
  readonly log: Log;
  readonly isServing: () => boolean;
  readonly onLogLevel?: (level: LogLevel) => void;
}

export async function serveOperators({ config, log, isServing, onLogLevel }: OperatorSideOptions) {
  measureProcess(processMetrics);
  const metrics = new MetricsServer(processMetrics, isServing);
  const admin = new RpcServer({ log, drainMs: 500 });
  admin.add(LogLevelService, logLevelHandlers(log, onLogLevel));
  if (config.metricsListen !== undefined) await metrics.listen(config.metricsListen);
  if (config.adminListen !== undefined) {
    await admin.listen(config.adminListen);
    admin.ready();
  }
  return {
    async close() {
      await Promise.all([metrics.close(), admin.close()]);
    },
  };
}
