import { Counter } from '@wrenn/kit/metrics/instruments';
import type { Metrics } from '@wrenn/kit/metrics/registry';

import type { PagerFigures } from './adapters/pager-figures.ts';
import type { VmTable } from './domain/vm-table.ts';
import type { Death, VmState } from './domain/vm.ts';

// What only its moment tells.
export interface VmEvents {
  died(death: Death): void;
}

const states: readonly VmState['name'][] = ['starting', 'running', 'freezing', 'thawing', 'frozen', 'stopping', 'dead'];

export function countDeaths(metrics: Metrics): VmEvents {
  const deaths: Counter<'reason'> = metrics.counter({
    name: 'wrenn_vm_runtime_vm_deaths_total',
    help: 'VMs that ended without being asked to.',
    labels: ['reason'],
  });
  return { died: ({ reason }) => deaths.add(1, { reason }) };
}

export function countVms(metrics: Metrics, vms: Pick<VmTable, 'list'>, pagers: PagerFigures): void {
  metrics.read('gauge', { name: 'wrenn_vm_runtime_vms', help: 'VMs by state.', labels: ['state'] }, () => {
    const all = vms.list();
    return states.map((name) => [all.filter(({ state }) => state.name === name).length, { state: name }] as const);
  });
  metrics.read(
    'gauge',
    { name: 'wrenn_vm_runtime_guest_memory_bytes', help: 'Memory that running guests were given.' },
    () => [[vms.list().reduce((sum, { state }) => sum + ('facts' in state ? state.facts.memoryBytes : 0), 0)]],
  );
  metrics.include('pagers', () => pagers.read());
}
