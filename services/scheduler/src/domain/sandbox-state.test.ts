import { expect, test } from 'vitest';

import {
  type SandboxState,
  canMove,
  endedStates,
  hostedStates,
  isHosted,
  isLive,
  liveStates,
  sandboxStates,
} from './sandbox-state.ts';

test('allows exactly the moves of the table', () => {
  const allowed = sandboxStates.flatMap((from) =>
    sandboxStates.filter((to) => canMove(from, to)).map((to) => `${from} > ${to}`),
  );
  expect(allowed.toSorted()).toEqual(
    [
      'pending > starting',
      'pending > destroying',
      'pending > error',
      'starting > running',
      'starting > destroying',
      'starting > error',
      'running > pausing',
      'pausing > paused',
      'pausing > running',
      'pausing > destroying',
      'pausing > error',
      'paused > paused',
      'paused > resuming',
      'paused > destroying',
      'paused > error',
      'resuming > running',
      'resuming > paused',
      'resuming > destroying',
      'resuming > error',
      'running > destroying',
      'running > error',
      'destroying > destroyed',
      'error > destroying',
    ].toSorted(),
  );
});

test('lets every state but destroyed reach destroyed, and destroyed reach nothing', () => {
  const reaches = (from: SandboxState, seen = new Set<SandboxState>()): Set<SandboxState> => {
    for (const to of sandboxStates) if (canMove(from, to) && !seen.has(to)) reaches(to, seen.add(to));
    return seen;
  };
  for (const state of sandboxStates) expect(reaches(state).has('destroyed')).toBe(state !== 'destroyed');
});

test('counts each state either as live or as ended', () => {
  expect([...liveStates, ...endedStates].toSorted()).toEqual(sandboxStates.toSorted());
  for (const state of sandboxStates) expect(isLive(state)).toBe(!(endedStates as readonly string[]).includes(state));
});

test('lets a paused sandbox, and nothing else that lives, be without a place on its host', () => {
  expect(liveStates.filter((state) => !isHosted(state))).toEqual(['paused']);
  expect(hostedStates.every((state) => isLive(state))).toBe(true);
});

test('lets every state before the end be destroyed or fail, and only a frozen one stand still', () => {
  for (const state of liveStates.filter((each) => each !== 'destroying')) {
    expect(canMove(state, 'destroying'), state).toBe(true);
    expect(canMove(state, 'error'), state).toBe(true);
  }
  expect(sandboxStates.filter((state) => canMove(state, state))).toEqual(['paused']);
});
