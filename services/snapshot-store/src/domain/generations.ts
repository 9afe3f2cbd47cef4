// Chains grow to 10 generations above their Full; the snapshot after that is a Full again.
export const maxGeneration = 10;

export interface Generation {
  readonly generation: number;
}

export function nextGeneration(parent: Generation | undefined): number {
  return parent === undefined || parent.generation >= maxGeneration ? 0 : parent.generation + 1;
}
