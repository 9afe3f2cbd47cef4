import { expect, test } from 'vitest';

import { RouteCache } from './route-cache.ts';

const at = (name: string) => ({ interactive: name, bulk: `${name}-bulk` });

function cacheAt(clock: { nowMs: number }, capacity = 2): RouteCache {
  return new RouteCache({ capacity, freshMs: 1000, nowMs: () => clock.nowMs });
}

test('a route is fresh for its time, then stale, and fresh again once set anew', () => {
  const clock = { nowMs: 0 };
  const cache = cacheAt(clock);
  cache.set('a', at('one'));
  clock.nowMs = 999;
  expect(cache.get('a')).toEqual({ host: at('one'), isFresh: true });
  clock.nowMs = 1000;
  expect(cache.get('a')).toEqual({ host: at('one'), isFresh: false });
  cache.set('a', at('two'));
  expect(cache.get('a')).toEqual({ host: at('two'), isFresh: true });
});

test('reading a route does not prolong it', () => {
  const clock = { nowMs: 0 };
  const cache = cacheAt(clock);
  cache.set('a', at('one'));
  clock.nowMs = 900;
  cache.get('a');
  clock.nowMs = 1100;
  expect(cache.get('a')?.isFresh).toBe(false);
});

test('beyond its capacity the cache drops the route that was unused the longest', () => {
  const cache = cacheAt({ nowMs: 0 });
  cache.set('a', at('one'));
  cache.set('b', at('one'));
  cache.get('a');
  cache.set('c', at('one'));
  expect(cache.get('b')).toBeUndefined();
  expect(cache.get('a')).toBeDefined();
  expect(cache.get('c')).toBeDefined();
  expect(cache.size).toBe(2);
});

test('a late failure does not make a newer route forgotten', () => {
  const cache = cacheAt({ nowMs: 0 });
  cache.set('a', at('new'));
  cache.delete('a', at('old'));
  expect(cache.get('a')?.host).toEqual(at('new'));
  cache.delete('a', at('new'));
  expect(cache.get('a')).toBeUndefined();
});
