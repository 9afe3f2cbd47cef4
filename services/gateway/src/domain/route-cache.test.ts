import { expect, test } from 'vitest';

import { RouteCache } from './route-cache.ts';

function cacheAt(clock: { nowMs: number }, capacity = 2): RouteCache {
  return new RouteCache({ capacity, freshMs: 1000, nowMs: () => clock.nowMs });
}

test('a route is fresh for its time, then stale, and fresh again once set anew', () => {
  const clock = { nowMs: 0 };
  const cache = cacheAt(clock);
  cache.set('a', 'one');
  clock.nowMs = 999;
  expect(cache.get('a')).toEqual({ address: 'one', isFresh: true });
  clock.nowMs = 1000;
  expect(cache.get('a')).toEqual({ address: 'one', isFresh: false });
  cache.set('a', 'two');
  expect(cache.get('a')).toEqual({ address: 'two', isFresh: true });
});

test('reading a route does not prolong it', () => {
  const clock = { nowMs: 0 };
  const cache = cacheAt(clock);
  cache.set('a', 'one');
  clock.nowMs = 900;
  cache.get('a');
  clock.nowMs = 1100;
  expect(cache.get('a')?.isFresh).toBe(false);
});

test('beyond its capacity the cache drops the route that was unused the longest', () => {
  const cache = cacheAt({ nowMs: 0 });
  cache.set('a', 'one');
  cache.set('b', 'one');
  cache.get('a');
  cache.set('c', 'one');
  expect(cache.get('b')).toBeUndefined();
  expect(cache.get('a')).toBeDefined();
  expect(cache.get('c')).toBeDefined();
  expect(cache.size).toBe(2);
});

test('a late failure does not make a newer route forgotten', () => {
  const cache = cacheAt({ nowMs: 0 });
  cache.set('a', 'new');
  cache.delete('a', 'old');
  expect(cache.get('a')?.address).toBe('new');
  cache.delete('a', 'new');
  expect(cache.get('a')).toBeUndefined();
});
