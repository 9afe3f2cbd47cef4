// The one registry of a process. Like OpenTelemetry's tracer it is found by import, since calls are measured where
// they are made, in lanes and servers; whatever else counts gets a registry as an argument.
import { readdir, readFile } from 'node:fs/promises';

import { Metrics } from './registry.ts';

export const processMetrics = new Metrics();

// The figures of a process, most of which Prometheus has names for.
export function measureProcess(metrics: Metrics): void {
  metrics.read(
    'counter',
    { name: 'process_cpu_seconds_total', help: 'Processor time that the process has used, user and system.' },
    () => {
      const { user, system } = process.cpuUsage();
      return [[(user + system) / 1e6]];
    },
  );
  metrics.read(
    'gauge',
    { name: 'process_resident_memory_bytes', help: 'Memory of the process that is resident.' },
    () => [[process.memoryUsage.rss()]],
  );
  metrics.read(
    'gauge',
    { name: 'process_start_time_seconds', help: 'When the process started, in seconds since 1970.' },
    () => [[performance.timeOrigin / 1000]],
  );
  metrics.read('gauge', { name: 'process_open_fds', help: 'Open file descriptors.' }, async () => {
    const names = await readdir('/proc/self/fd');
    return [[names.length - 1]]; // One is the listing's own.
  });
  metrics.read('gauge', { name: 'process_max_fds', help: 'The limit of open file descriptors.' }, async () => {
    const limits = await readFile('/proc/self/limits', 'utf8');
    const soft = /^Max open files +(\d+|unlimited)/m.exec(limits)?.[1];
    return [[soft === 'unlimited' ? Infinity : Number(soft)]];
  });
  metrics.read('gauge', { name: 'wrenn_process_heap_bytes', help: 'JavaScript heap in use.' }, () => [
    [process.memoryUsage().heapUsed],
  ]);
}
