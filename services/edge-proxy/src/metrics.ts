import { secondsBounds } from '@wrenn/kit/metrics/buckets';
import type { Metrics } from '@wrenn/kit/metrics/registry';

import type { Dial } from './adapters/guest-connections.ts';
import { Refusal } from './domain/refusal.ts';
import type { Answered } from './exchange.ts';

export interface CountedEdge {
  readonly connectionCount: number;
  readonly traffic: { readonly receivedBytes: number; readonly sentBytes: number };
}

export interface CountedGuests {
  readonly idleCount: number;
  readonly evictedCount: number;
}

const about = 'wrenn_edge_proxy';

// Answers by class of status, and by whether a guest gave them or the edge itself.
export function countAnswers(metrics: Metrics): Answered {
  const answers = metrics.counter({ name: `${about}_answers_total`, help: 'Answers.', labels: ['by', 'status'] });
  return (status, by) => answers.add(1, { by, status: `${Math.floor(status / 100)}xx` });
}

// Attempts to reach a guest, by what came of them.
export function measuredDial(metrics: Metrics, dial: Dial): Dial {
  const times = metrics.histogram(
    { name: `${about}_dial_seconds`, help: 'Attempts to connect to a guest.', labels: ['outcome'] },
    secondsBounds,
  );
  return async (id, port, signal) => {
    const startMs = performance.now();
    let outcome = 'ok';
    try {
      return await dial(id, port, signal);
    } catch (error) {
      outcome = error instanceof Refusal ? error.code : 'failed';
      throw error;
    } finally {
      times.observe((performance.now() - startMs) / 1000, { outcome });
    }
  };
}

export function countEdge(metrics: Metrics, server: CountedEdge, guests: CountedGuests): void {
  metrics.read('gauge', { name: `${about}_connections`, help: 'Connections of clients.' }, () => [
    [server.connectionCount],
  ]);
  metrics.read(
    'counter',
    { name: `${about}_client_bytes_total`, help: 'Bytes from and to clients.', labels: ['direction'] },
    () => [
      [server.traffic.receivedBytes, { direction: 'received' }],
      [server.traffic.sentBytes, { direction: 'sent' }],
    ],
  );
  metrics.read(
    'gauge',
    { name: `${about}_kept_connections`, help: 'Idle connections to guests, kept for use.' },
    () => [[guests.idleCount]],
  );
  metrics.read(
    'counter',
    { name: `${about}_evictions_total`, help: 'Kept connections that were closed because their sandbox changed.' },
    () => [[guests.evictedCount]],
  );
}
