// A row of the benchmark: a number with its goal. `.bench/results.json` holds a list of them.
import type { TestMesh } from '@wrenn/e2e/mesh';

export interface Goal {
  readonly relation: '<=' | '>=';
  readonly value: number;
}

export interface Row {
  readonly id: string; // `area.what`, like `spine.create_ratio`.
  readonly value: number;
  readonly unit: string;
  readonly goal: Goal | null; // Null: told for the record.
  readonly met: boolean | null;
}

// Measures several rows in one go, because they share work or must run side by side.
export interface Measurement {
  readonly ids: readonly string[];
  run(mesh: TestMesh, tell: (line: string) => void): Promise<Row[]>;
}

export function row(id: string, value: number, unit: string, goal: Goal | null = null): Row {
  const rounded = Number(value.toPrecision(4));
  return { id, value: rounded, unit, goal, met: goal && isMet(value, goal) };
}

export function isMet(value: number, { relation, value: limit }: Goal): boolean {
  return relation === '<=' ? value <= limit : value >= limit;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new RangeError('no values to take the median of');
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

// The mean of the middle half: as deaf to outliers as the median nearly, and less moved by chance.
export function middleMean(values: readonly number[]): number {
  const cut = Math.floor(values.length / 4);
  const middle = values.toSorted((a, b) => a - b).slice(cut, values.length - cut);
  if (middle.length === 0) throw new RangeError('no values to take the mean of');
  return middle.reduce((sum, value) => sum + value, 0) / middle.length;
}

// The value that the given share of all values does not exceed: 0.99 for the 99th percentile.
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  if (value === undefined) throw new RangeError('no values to take a percentile of');
  return value;
}
