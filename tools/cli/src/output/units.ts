// Sizes and times as people write and read them.
import { UsageError } from '../exit-codes.ts';

const sizeUnits: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const timeUnits: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

// `512M`, `1G`, `1GiB`, or plain bytes.
export function parseBytes(text: string): bigint {
  const match = /^(\d{1,15})([KMGT]?)(?:i?B)?$/i.exec(text);
  if (!match) throw new UsageError(`"${text}" is no size; write it like 512M or 2G`);
  return BigInt(match[1] ?? '0') * BigInt(sizeUnits[(match[2] ?? '').toUpperCase()] ?? 1);
}

// `90s`, `10m`, `1h30m`, `250ms`.
export function parseMs(text: string): number {
  if (!/^(\d+(ms|s|m|h))+$/.test(text)) throw new UsageError(`"${text}" is no time; write it like 30s, 10m or 1h30m`);
  let ms = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|s|m|h)/g)) ms += Number(count) * (timeUnits[unit ?? ''] ?? 0);
  return ms;
}

export function formatBytes(bytes: bigint | number): string {
  const value = Number(bytes);
  const unit = Object.entries(sizeUnits).findLast(([, size]) => value >= size && size > 1);
  if (!unit) return `${value} B`;
  const count = value / unit[1];
  return `${Number.isInteger(count) ? count : count.toFixed(1)} ${unit[0]}iB`;
}

export function formatMs(ms: number): string {
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)} s`;
  return formatAge(ms);
}

// Coarse: the largest unit and the next one, as in `2h 5m`; without that where it is none, as in `3d`.
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const largest = parts.findIndex(([count]) => count > 0);
  if (largest === -1) return '0s';
  const shown = parts.slice(largest, largest + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count}${unit}`).join(' ');
}

// `NAME=value`, given any number of times.
export function parsePairs(pairs: readonly string[], option: string): Record<string, string> {
  const entries = pairs.map((pair) => {
    const at = pair.indexOf('=');
    if (at < 1) throw new UsageError(`${option} ${pair}: write it as NAME=value`);
    return [pair.slice(0, at), pair.slice(at + 1)] as const;
  });
  return Object.fromEntries(entries);
}

export function parseCount(text: string, option: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= min && value <= max)) throw new UsageError(`${option} must be ${min} to ${max}, not "${text}"`);
  return value;
}
