import { chmod, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { systemClock } from '@wrenn/kit/clock';
import { armFailpoints } from '@wrenn/kit/failpoint';
import { Lanes } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { OperationTimes } from '@wrenn/kit/metrics/operation-times';
import { processMetrics } from '@wrenn/kit/metrics/process-metrics';
import { serveOperators } from '@wrenn/kit/operator-side';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { Shutdown, runService } from '@wrenn/kit/shutdown';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { newAccessToken } from '@wrenn/kit/tokens';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { MetricsService } from '@wrenn/proto/wrenn/v1/metrics';
import { PortService } from '@wrenn/proto/wrenn/v1/port';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { VmRuntimeService } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';

import { BulkThread } from './adapters/bulk-thread.ts';
import { Cgroups } from './adapters/cgroups.ts';
import { ConsoleFiles } from './adapters/console-files.ts';
import { GrpcAgentDialer } from './adapters/grpc-guest-agent.ts';
import { HostReport, guestDiskBytes, guestMemoryBytes } from './adapters/host-report.ts';
import { NetworkSlots } from './adapters/network-slots.ts';
import { Pager } from './adapters/pager.ts';
import { findPlatform } from './adapters/platform.ts';
import { Qemu } from './adapters/qemu.ts';
import { StoreDisks } from './adapters/store-disks.ts';
import { StoreSnapshots } from './adapters/store-snapshots.ts';
import { VmJournal } from './adapters/vm-journal.ts';
import { parseConfig } from './config.ts';
import { ComingSnapshots } from './domain/coming-snapshots.ts';
import { ConsoleLogs } from './domain/console-logs.ts';
import { VmTable } from './domain/vm-table.ts';
import { filesystemHandlers, vmFiles } from './filesystem-server.ts';
import { metricsHandlers } from './metrics-server.ts';
import { countDeaths } from './metrics.ts';
import { observeVms } from './observation.ts';
import { portHandlers } from './port-server.ts';
import { processHandlers } from './process-server.ts';
import { deadlinesMs, logHandlers, vmHandlers, vmOperations } from './server.ts';

await runService(async () => {
  const config = parseConfig(process.env);
  const log = openLog('vm-runtime', config.logLevel);
  armFailpoints(config, log);
  await using stop = new Shutdown(log);
  stop.own('telemetry', startTelemetry('vm-runtime', process.env));

  const network = stop.own('network lanes', new Lanes(config.network, 'the network service'));
  const store = stop.own('snapshot-store lanes', new Lanes(config.snapshotStore, 'the snapshot store'));
  const scheduler = stop.own('scheduler lanes', new Lanes(config.scheduler, 'the scheduler'));

  // Takes seconds when anything has changed. New VMs wait for it; those that run are served meanwhile.
  const bootDir = join(config.runDir, 'boot');
  const platform = findPlatform({ ...config, bootDir }, log);
  const vmsDir = join(config.runDir, 'vms');
  // VMMs, each as its own uid, pass through to what is theirs, and see nothing of what else is there.
  for (const dir of [config.runDir, vmsDir, config.ramDir]) {
    await mkdir(dir, { recursive: true });
    await chmod(dir, 0o711);
  }

  const bulkSettings = { listen: config.bulkListen, logLevel: config.logLevel, env: { ...process.env } };
  const bulk = stop.own('bulk thread', new BulkThread(bulkSettings, log));
  processMetrics.include('bulk thread', () => bulk.count());
  const slots = new NetworkSlots(network);
  const snapshots = new ComingSnapshots(new StoreSnapshots(store));
  const disks = new StoreDisks(store);
  const consoles = stop.own('consoles', new ConsoleLogs(new ConsoleFiles(join(config.dataDir, 'consoles')), log));
  consoles.start();
  const dirs = { vmsDir, ramDir: config.ramDir };
  const pager = new Pager(join(bootDir, basename(config.pager)));
  const vmm = new Qemu({ ...dirs, platform, pager, cgroups: new Cgroups() });
  const vms = stop.own(
    'vms',
    new VmTable({
      slots,
      disks,
      snapshots,
      vmm,
      agents: new GrpcAgentDialer(),
      journal: new VmJournal(vmsDir, log),
      log,
      clock: systemClock,
      bulk,
      consoles,
      died: countDeaths(processMetrics).died,
      newAccessToken,
    }),
  );
  await Promise.all([vms.adopt(), bulk.start()]);

  const rpc = stop.own('rpc server', new RpcServer({ log, deadlinesMs }));
  stop.own(
    'operator side',
    await serveOperators({
      config,
      log,
      isServing: () => rpc.isServing,
      onLogLevel: (level) => bulk.setLogLevel(level),
    }),
  );
  const times = new OperationTimes(processMetrics, 'vm_runtime');
  rpc.add(VmRuntimeService, times.handlers(vmHandlers(vms, snapshots), vmOperations));
  rpc.add(ProcessService, processHandlers(vms));
  rpc.add(FilesystemService, filesystemHandlers(vmFiles(vms, config.edgeUrl, systemClock)));
  rpc.add(PortService, portHandlers(vms));
  rpc.add(LogService, logHandlers(consoles));
  const observed = { vms, vmm, disks, dirs, metrics: processMetrics, clock: systemClock, log };
  rpc.add(MetricsService, metricsHandlers(stop.own('usage', observeVms(observed))));
  await rpc.listen(config.listen);
  rpc.ready();

  const facts = {
    hostId: config.hostId,
    address: config.advertise,
    bulkAddress: config.bulkAdvertise,
    vmm: (await platform).facts.vmm,
    accelerator: (await platform).accelerator,
    memoryBytes: await guestMemoryBytes(config.ramDir),
  };
  const capacity = {
    slotCount: () => slots.capacity(),
    diskBytes: async () => guestDiskBytes(config.dataDir, await disks.takenBytes()),
  };
  stop.own('host report', new HostReport(scheduler, facts, capacity, log));
  await stop.onSignal();
});
