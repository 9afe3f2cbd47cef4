import type { Metrics } from '@wrenn/kit/metrics/registry';

import { indexesOf } from './domain/slot.ts';
import type { NetworkRoutes } from './server.ts';

export function countSlots(metrics: Metrics, { range, leases, stock }: NetworkRoutes): void {
  const total = indexesOf(range).length;
  metrics.read('gauge', { name: 'wrenn_network_slots', help: 'Slots by state.', labels: ['state'] }, () => {
    const [leased, ready, stuck] = [leases.list().size, stock.readyCount, stock.stuckCount];
    return [
      [leased, { state: 'leased' }],
      [ready, { state: 'built' }],
      [stuck, { state: 'stuck' }],
      [Math.max(0, total - leased - ready - stuck), { state: 'free' }],
    ];
  });
}
