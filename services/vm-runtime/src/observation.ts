// Wires what is noted of VMs while they run, beside what their consoles say: usage of each, figures of all.
import type { Clock } from '@wrenn/kit/clock';
import type { Log } from '@wrenn/kit/log';
import type { Metrics } from '@wrenn/kit/metrics/registry';

import { PagerFigures } from './adapters/pager-figures.ts';
import type { Qemu } from './adapters/qemu.ts';
import type { StoreDisks } from './adapters/store-disks.ts';
import { vmPaths } from './adapters/vm-paths.ts';
import { VmUsage } from './adapters/vm-usage.ts';
import { UsageSampler } from './domain/usage-sampler.ts';
import type { VmTable } from './domain/vm-table.ts';
import { countVms } from './metrics.ts';

export interface ObservedParts {
  readonly vms: VmTable;
  readonly vmm: Qemu;
  readonly disks: StoreDisks;
  readonly dirs: { readonly vmsDir: string; readonly ramDir: string };
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
}

export function observeVms({ vms, vmm, disks, dirs, metrics, clock, log }: ObservedParts): UsageSampler {
  const running = () =>
    vms.list().flatMap(({ sandboxId, state }) => {
      return state.name === 'running' ? [{ sandboxId, processes: state.machine.processes }] : [];
    });
  countVms(metrics, vms, new PagerFigures(running, (id) => `${vmPaths(dirs, id).pagerSocket}.stats`));
  const meter = new VmUsage({ groupUsage: (id) => vmm.groupUsage(id), diskBytes: () => disks.realBytes() });
  const sampler = new UsageSampler({ running, meter, clock, log });
  sampler.start();
  return sampler;
}
