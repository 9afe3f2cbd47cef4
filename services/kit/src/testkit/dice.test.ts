import { expect, test } from 'vitest';

import { Dice } from './dice.ts';

const throws = (seed: number, count = 20) => {
  const dice = new Dice(seed);
  return Array.from({ length: count }, () => dice.below(1000));
};

test('falls the same way for the same seed, and another way for another', () => {
  expect(throws(7)).toEqual(throws(7));
  expect(throws(7)).not.toEqual(throws(8));
});

test('shuffles without losing any, the same way for the same seed', () => {
  const cards = Array.from({ length: 30 }, (_, index) => index);
  const shuffled = new Dice(7).shuffled(cards);
  expect(shuffled).toEqual(new Dice(7).shuffled(cards));
  expect(shuffled).not.toEqual(cards);
  expect(shuffled.toSorted((a, b) => a - b)).toEqual(cards);
});

test('reaches every choice about as often', () => {
  const dice = new Dice(1);
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 4000; i++) counts[dice.below(4)]! += 1;
  for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  expect(() => dice.pick([])).toThrow();
});
