// Composition root of the network service: network slots for the VMs of one host.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { armFailpoints } from '@wrenn/kit/failpoint';
import { openLog } from '@wrenn/kit/log';
import { OperationTimes } from '@wrenn/kit/metrics/operation-times';
import { processMetrics } from '@wrenn/kit/metrics/process-metrics';
import { serveOperators } from '@wrenn/kit/operator-side';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { runProgram } from '@wrenn/kit/run-program';
import { Shutdown, runService } from '@wrenn/kit/shutdown';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { NetworkService } from '@wrenn/proto/wrenn/network/v1/network';

import { claimSlots } from './adapters/claim.ts';
import { Host } from './adapters/host.ts';
import { LeaseFile } from './adapters/lease-file.ts';
import { KernelSlotNetworks } from './adapters/slot-networks.ts';
import { readNetworkConfig } from './config.ts';
import { planRecovery } from './domain/recovery.ts';
import { SlotLeases } from './domain/slot-leases.ts';
import { SlotStock } from './domain/slot-stock.ts';
import { countSlots } from './metrics.ts';
import { networkHandlers } from './server.ts';

await runService(async () => {
  const config = readNetworkConfig(process.env);
  const range = { first: config.firstSlot, last: config.lastSlot };
  const log = openLog('network', config.logLevel);
  armFailpoints(config, log);
  await using stop = new Shutdown(log);
  stop.own('telemetry', startTelemetry('network', process.env));

  await mkdir(config.stateDir, { recursive: true, mode: 0o700 });
  stop.own('claim', await claimSlots(range, config.stateDir));
  const store = new LeaseFile(join(config.stateDir, 'leases.json'));
  const recorded = await store.read(range);
  const host = new Host(runProgram, log);
  await host.prepare(range);
  const networks = new KernelSlotNetworks(runProgram, {
    bytesPerSecond: config.sendBytesPerSecond,
    burstBytes: config.sendBurstBytes,
  });

  const recovery = planRecovery(range, recorded, await networks.survey(range, recorded));
  log.info(
    { adopted: recovery.adopted.size, lost: recovery.lost, stale: recovery.stale.map((slot) => slot.index) },
    'former life surveyed',
  );
  const pause = (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal });
  const stock = new SlotStock({ range, readyGoal: config.poolSize, networks, log, pause });
  const leases = new SlotLeases({ stock, store, adopted: recovery.adopted, log });
  stop.own('host rules', {
    // Leased slots outlive this process, and so must the rules that guard the host from them.
    close: () => (leases.list().size === 0 ? host.removeRules(range) : undefined),
  });
  stop.own('slots', stock);

  const rpc = stop.own('rpc', new RpcServer({ log }));
  stop.own('operator side', await serveOperators({ config, log, isServing: () => rpc.isServing }));
  const times = new OperationTimes(processMetrics, 'network');
  const operations = { leaseSlot: 'lease', releaseSlot: 'release' };
  rpc.add(NetworkService, times.handlers(networkHandlers({ range, leases, stock }), operations));
  countSlots(processMetrics, { range, leases, stock });
  await stock.sweep(recovery.stale);
  await leases.record();
  stock.add(recovery.free);
  await rpc.listen(config.listen);
  rpc.ready();
  await stop.onSignal();
});
