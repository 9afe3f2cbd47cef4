import { ActivityReport } from '@wrenn/kit/activity-report';
import { systemClock } from '@wrenn/kit/clock';
import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { processMetrics } from '@wrenn/kit/metrics/process-metrics';
import { serveOperators } from '@wrenn/kit/operator-side';
import { Shutdown, runService } from '@wrenn/kit/shutdown';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';

import { countedDial } from './adapters/counted-dial.ts';
import { GuestConnections } from './adapters/guest-connections.ts';
import { GuestDialer, guestRange } from './adapters/guest-dialer.ts';
import { HopDialer } from './adapters/hop-dialer.ts';
import { readHopSecret } from './adapters/hop-tls.ts';
import { SandboxAddresses } from './adapters/sandbox-addresses.ts';
import { SandboxFollower } from './adapters/sandbox-follower.ts';
import { readEdgeConfig } from './config.ts';
import { Gate } from './gate.ts';
import { type DialHere, HopServer } from './adapters/hop-server.ts';
import { countAnswers, countEdge, measuredDial } from './metrics.ts';
import { EdgeServer } from './server.ts';

await runService(async () => {
  const config = readEdgeConfig(process.env);
  const log = openLog('edge-proxy', config.logLevel);
  await using stop = new Shutdown(log);
  stop.own('telemetry', startTelemetry('edge-proxy', process.env));
  const scheduler = stop.own('scheduler lanes', new Lanes(config.scheduler, 'scheduler'));
  const sandboxes = scheduler.client('control', SchedulerService);
  const send = (sandboxIds: string[]) => sandboxes.reportActivity({ sandboxIds }, inMs(2000));
  const activity = stop.own('activity', new ActivityReport({ send, log }));
  const addresses = new SandboxAddresses(sandboxes);
  const { hostId, hops, hopListen, hopSecretFile } = config;
  const secret = hopSecretFile === undefined ? undefined : await readHopSecret(hopSecretFile);
  const dialer = new GuestDialer(addresses, guestRange, {
    isHere: (id) => (hostId === undefined ? hops.size === 0 : id === hostId),
    hops: secret && new HopDialer(hops, secret),
  });
  const guests = stop.own(
    'guest connections',
    new GuestConnections({
      resolve: (id) => addresses.resolve(id),
      dial: measuredDial(
        processMetrics,
        countedDial((id, port, signal) => dialer.dial(id, port, signal), activity),
      ),
    }),
  );
  const events = scheduler.client('control', SandboxService);
  stop.own('sandbox follower', new SandboxFollower(events, [addresses, guests], log));
  const gate = new Gate({ accessOf: (id) => addresses.accessOf(id), clock: systemClock });
  const server = stop.own(
    'edge server',
    new EdgeServer({
      guests,
      admit: gate.admit.bind(gate),
      domain: config.domain,
      log,
      isTrusted: config.trustedProxies,
      answered: countAnswers(processMetrics),
    }),
  );
  countEdge(processMetrics, server, guests);
  if (hopListen !== undefined && secret) {
    const here = new GuestDialer(addresses, guestRange, { isHere: (id) => id === hostId });
    const dial: DialHere = async (id, port, signal) => (await here.dial(id, port, signal)).socket;
    await stop.own('hop server', new HopServer({ dial, secret, log })).listen(hopListen);
  }
  let isServing = false;
  stop.own('operator side', await serveOperators({ config, log, isServing: () => isServing }));
  await server.listen(config.listen);
  isServing = true;
  await stop.onSignal();
});
