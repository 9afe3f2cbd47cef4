// A trace as rows of text: names as a tree, bars on a line of time, durations.
import { type WaterfallRow, shortName, shortService, waterfallOf } from '@wrenn/kit/telemetry/waterfall';
import type { TraceServiceGetResponse } from '@wrenn/proto/wrenn/v1/trace';

import { printable } from './printable.ts';
import { formatMs } from './units.ts';

const maxRows = 1000;
const leastBar = 20;
const mostNames = 48;
const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

export interface DrawOptions {
  readonly columns: number;
  readonly withDetails: boolean;
}

export function drawWaterfall(trace: TraceServiceGetResponse, { columns, withDetails }: DrawOptions): string[] {
  const { rows, durationMs, hiddenCount } = waterfallOf(trace, maxRows);
  const names = rows.map(
    ({ span, depth }) => `${'  '.repeat(depth)}${span.isError ? '✗ ' : ''}${printable(shortName(span))}`,
  );
  const services = rows.map(({ span }) => printable(shortService(span.service)));
  const times = rows.map((row) => formatMs(row.durationMs));
  const nameWidth = Math.min(mostNames, Math.max(...names.map(widthOf), 0));
  const serviceWidth = Math.max(...services.map(widthOf), 0);
  const timeWidth = Math.max(...times.map(widthOf), 0);
  const barWidth = Math.max(leastBar, columns - nameWidth - serviceWidth - timeWidth - 6);
  const lines = rows.flatMap((row, at) => {
    const name = cut(names[at] ?? '', nameWidth).padEnd(nameWidth);
    const bar = barOf(row, durationMs, barWidth).padEnd(barWidth);
    const line = `${name}  ${(services[at] ?? '').padEnd(serviceWidth)}  ${bar}  ${(times[at] ?? '').padStart(timeWidth)}`;
    return withDetails ? [line, ...detailsOf(row)] : [line];
  });
  return hiddenCount > 0 ? [...lines, `(${hiddenCount} more spans are not drawn)`] : lines;
}

// In eighths of a column; something is always seen.
function barOf({ startMs, durationMs }: WaterfallRow, totalMs: number, width: number): string {
  const perMs = totalMs > 0 ? width / totalMs : 0;
  const start = Math.min(width - 1, Math.max(0, Math.floor(startMs * perMs)));
  const eighthCount = Math.max(1, Math.round(durationMs * perMs * 8));
  const full = Math.min(width - start, Math.floor(eighthCount / 8));
  const rest = start + full < width ? (eighths[eighthCount % 8] ?? '') : '';
  return ' '.repeat(start) + '█'.repeat(full) + rest;
}

function detailsOf({ span, depth }: WaterfallRow): string[] {
  const indent = '  '.repeat(depth + 2);
  const facts = Object.entries(span.attributes)
    .filter(([key]) => !key.startsWith('rpc.method') && key !== 'rpc.system.name')
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([key, value]) => `${indent}${printable(key)}: ${printable(value)}`);
  const events = span.events.map(({ name, attributes }) => {
    const told = Object.entries(attributes).map(([key, value]) => `${key}=${value}`);
    return `${indent}• ${printable([name, ...told].join(' '))}`;
  });
  const links = span.links.map(({ traceId }) => `${indent}linked to trace ${printable(traceId)}`);
  return [...facts, ...events, ...links];
}

function cut(text: string, width: number): string {
  return widthOf(text) > width
    ? `${Array.from(text)
        .slice(0, width - 1)
        .join('')}…`
    : text;
}

function widthOf(text: string): number {
  return Array.from(text).length;
}
