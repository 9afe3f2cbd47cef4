import { Dice } from '@wrenn/kit/testkit/dice';

// Numbers that look random and are the same for the same seed, so that a failure can be seen again.
export function seededRandom(seed: number): (below: number) => number {
  const dice = new Dice(seed);
  return (below) => dice.below(below);
}
