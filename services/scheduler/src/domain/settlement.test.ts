import { expect, test } from 'vitest';

import { type Evidence, type UnsettledState, type Verdict, verdictOn } from './settlement.ts';

const booleans = [false, true];
const states: UnsettledState[] = ['pausing', 'resuming', 'running'];
const everything = states.flatMap((state) =>
  (['none', 'running', 'changing', 'dead'] as const).flatMap((vm) =>
    booleans.flatMap((hasNext) =>
      booleans.flatMap((keepsRunning) =>
        booleans.flatMap((isSecondLook) =>
          booleans.map((isOld) => ({ state, evidence: { vm, hasNext, keepsRunning, isSecondLook, isOld } })),
        ),
      ),
    ),
  ),
);

const verdicts = (where: (state: UnsettledState, evidence: Evidence) => boolean) =>
  new Set(
    everything
      .filter(({ state, evidence }) => where(state, evidence))
      .map(({ state, evidence }) => verdictOn(state, evidence)),
  );

test('never gives up a sandbox of which there is a VM that runs, or the snapshot it was being frozen into', () => {
  const kept = verdicts((_state, { vm, hasNext }) => vm === 'running' || hasNext);
  expect(kept.has('lost')).toBe(false);
  // Of a dead VM that had gone on from its snapshot there is nothing more to say here.
  expect(verdicts((state, { vm, hasNext }) => state !== 'running' && (vm === 'running' || hasNext)).has('none')).toBe(
    false,
  );
});

test('never takes for paused what runs, nor for running what does not', () => {
  const frozen: Verdict[] = ['paused', 'thawed', 'lost'];
  const whileRunning = verdicts((_state, { vm }) => vm === 'running');
  expect(frozen.filter((verdict) => whileRunning.has(verdict))).toEqual([]);
  const whileNot = verdicts((_state, { vm }) => vm !== 'running');
  expect([...whileNot].filter((verdict) => ['running', 'adopt', 'abandon'].includes(verdict))).toEqual([]);
});

test('waits for a host that is at work, and gives up on none but a resume, which leaves its snapshot as it was', () => {
  expect(verdicts((_state, { vm, isOld }) => vm === 'changing' && !isOld)).toEqual(new Set(['wait']));
  expect(verdicts((state, { vm }) => vm === 'changing' && state !== 'resuming')).toEqual(new Set(['wait']));
  expect(verdicts((state, { vm, isOld }) => vm === 'changing' && state === 'resuming' && isOld)).toEqual(
    new Set(['thawed']),
  );
});

test('believes that nothing is left only at the second look', () => {
  expect(verdicts((_state, { vm, hasNext, isSecondLook }) => vm === 'none' && !hasNext && !isSecondLook)).toEqual(
    new Set(['wait', 'none']),
  );
});

test('comes to an end with everything that stays as it is', () => {
  const open = everything.filter(({ state, evidence }) => {
    const settled = { ...evidence, isSecondLook: true, isOld: true };
    return evidence.vm !== 'changing' && verdictOn(state, settled) === 'wait';
  });
  expect(open).toEqual([]);
});

test('lets a resume never cost more than the resume', () => {
  expect(verdicts((state) => state === 'resuming')).toEqual(new Set(['running', 'thawed', 'wait']));
});
