import { readFile } from 'node:fs/promises';

import { systemClock } from '@wrenn/kit/clock';
import { armFailpoints } from '@wrenn/kit/failpoint';
import { openLog } from '@wrenn/kit/log';
import { processMetrics } from '@wrenn/kit/metrics/process-metrics';
import { serveOperators } from '@wrenn/kit/operator-side';
import { Shutdown, runService } from '@wrenn/kit/shutdown';
import { startTelemetry } from '@wrenn/kit/telemetry/start';

import { readSchedulerConfig } from './config.ts';
import { type Scheduler, startScheduler } from './scheduler.ts';

await runService(async () => {
  const config = readSchedulerConfig(process.env);
  const log = openLog('scheduler', config.logLevel);
  armFailpoints(config, log);
  await using stop = new Shutdown(log);
  stop.own('telemetry', startTelemetry('scheduler', process.env));
  const databaseUrl = (await readFile(config.databaseUrlFile, 'utf8')).trim();
  let scheduler: Scheduler | undefined;
  const isServing = () => scheduler?.isServing() ?? false;
  stop.own('operator side', await serveOperators({ config, log, isServing }));
  const options = { listen: config.listen, databaseUrl, log, clock: systemClock, metrics: processMetrics };
  scheduler = stop.own('scheduler', await startScheduler(options));
  await stop.onSignal();
});
