import type { Metrics } from '@wrenn/kit/metrics/registry';

interface Sized {
  readonly size: number;
}

export function countRoutes(metrics: Metrics, routes: Sized, hosts: Sized): void {
  metrics.read('gauge', { name: 'wrenn_gateway_routes', help: 'Sandboxes whose host is remembered.' }, () => [
    [routes.size],
  ]);
  metrics.read('gauge', { name: 'wrenn_gateway_host_lanes', help: 'Lanes to hosts that are open.' }, () => [
    [hosts.size],
  ]);
}
