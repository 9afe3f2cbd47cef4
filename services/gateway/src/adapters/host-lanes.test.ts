import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { HostLanes } from './host-lanes.ts';

const host = { interactive: '127.0.0.1:1', bulk: '127.0.0.1:1' };

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('a lane stays while any call uses it and goes once it has been idle for its time', () => {
  const hosts = new HostLanes(1000);
  const [long, short] = [hosts.use(host, 'interactive'), hosts.use(host, 'interactive')];
  expect(short.peer).toBe(long.peer);
  short[Symbol.dispose]();
  vi.advanceTimersByTime(10_000);
  expect(hosts.size).toBe(1);
  long[Symbol.dispose]();
  vi.advanceTimersByTime(999);
  expect(hosts.size).toBe(1);
  vi.advanceTimersByTime(1);
  expect(hosts.size).toBe(0);
});

test('a call within the idle time keeps the lane, a later one gets a new lane', () => {
  const hosts = new HostLanes(1000);
  const first = hosts.use(host, 'interactive');
  first[Symbol.dispose]();
  vi.advanceTimersByTime(999);
  const second = hosts.use(host, 'interactive');
  expect(second.peer).toBe(first.peer);
  vi.advanceTimersByTime(10_000);
  expect(hosts.size).toBe(1);
  second[Symbol.dispose]();
  vi.advanceTimersByTime(1000);
  const third = hosts.use(host, 'interactive');
  expect(third.peer).not.toBe(first.peer);
  third[Symbol.dispose]();
  hosts.close();
});

test('after closing, a call that ends late arms no timer', () => {
  const hosts = new HostLanes(1000);
  const use = hosts.use(host, 'interactive');
  hosts.close();
  use[Symbol.dispose]();
  expect(vi.getTimerCount()).toBe(0);
  expect(hosts.size).toBe(0);
});

test('the two kinds of traffic to one address share no lane, and a host without one is unavailable', () => {
  const hosts = new HostLanes(1000);
  using interactive = hosts.use(host, 'interactive');
  using bulk = hosts.use(host, 'bulk');
  expect(bulk.peer).not.toBe(interactive.peer);
  expect(() => hosts.use({ ...host, bulk: '' }, 'bulk')).toThrow('serves no bulk traffic');
  hosts.close();
});
