import { ActivityReport } from '@wrenn/kit/activity-report';
import { readConfig } from '@wrenn/kit/config';
import { inMs } from '@wrenn/kit/deadlines';
import { openLog } from '@wrenn/kit/log';
import { processMetrics } from '@wrenn/kit/metrics/process-metrics';
import { serveOperators } from '@wrenn/kit/operator-side';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { Shutdown, runService } from '@wrenn/kit/shutdown';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { TraceService } from '@wrenn/proto/wrenn/v1/trace';

import { HostLanes } from './adapters/host-lanes.ts';
import { LanePeer } from './adapters/lane-peer.ts';
import { hostLocator, sandboxResolver } from './adapters/sandbox-resolver.ts';
import { TracePages } from './adapters/trace-pages.ts';
import { gatewayShape } from './config.ts';
import { deadlinesMs } from './domain/deadlines.ts';
import { RouteCache } from './domain/route-cache.ts';
import { noTraces } from './domain/no-traces.ts';
import { SandboxRouter } from './domain/sandbox-router.ts';
import { countRoutes } from './metrics.ts';
import { addGatewayServices } from './server.ts';

await runService(async () => {
  const config = readConfig(gatewayShape, process.env);
  const log = openLog('gateway', config.logLevel);
  await using stop = new Shutdown(log);
  stop.own('telemetry', startTelemetry('gateway', process.env));
  const scheduler = stop.own('scheduler lane', new LanePeer(config.scheduler, 'scheduler', 'control'));
  const hosts = stop.own('host lanes', new HostLanes(60_000));
  const routes = new RouteCache({ capacity: 10_000, freshMs: 30_000, nowMs: () => performance.now() });
  const lives = scheduler.client(SchedulerService);
  const send = (sandboxIds: string[]) => lives.reportActivity({ sandboxIds }, inMs(2000));
  const activity = stop.own('activity', new ActivityReport({ send, log }));
  const router = new SandboxRouter(routes);
  countRoutes(processMetrics, routes, hosts);
  const rpc = new RpcServer({ log, deadlinesMs, bulkMethods: [FilesystemService.method.write] });
  const [resolve, locate] = [sandboxResolver(scheduler), hostLocator(scheduler)];
  const keeper =
    config.traceKeeper && stop.own('trace keeper lane', new LanePeer(config.traceKeeper, 'trace keeper', 'control'));
  addGatewayServices(rpc, { scheduler, hosts, resolve, locate, router, activity, traces: keeper || noTraces });
  stop.own('operator side', await serveOperators({ config, log, isServing: () => rpc.isServing }));
  await rpc.listen(config.listen);
  stop.own('rpc server', rpc);
  if (keeper && config.tracesListen) {
    const pages = stop.own('trace pages', new TracePages(keeper.client(TraceService), log));
    await pages.listen(config.tracesListen);
  }
  rpc.ready();
  await stop.onSignal();
});
