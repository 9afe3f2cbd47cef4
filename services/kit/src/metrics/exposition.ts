// The two text formats that Prometheus reads: its own, 0.0.4, and OpenMetrics 1.0, which has exemplars.
import type { Bucket, Exemplar, Family, Sample } from './family.ts';

export type ExpositionFormat = 'prometheus' | 'openmetrics';

export const contentTypes: Record<ExpositionFormat, string> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

const units = ['seconds', 'bytes', 'ratio'];

export function renderMetrics(families: readonly Family[], format: ExpositionFormat): string {
  const lines = families.flatMap((family) => [...header(family, format), ...body(family, format)]);
  if (format === 'openmetrics') lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

function header({ name, help, type }: Family, format: ExpositionFormat): string[] {
  const isOpen = format === 'openmetrics';
  // Only OpenMetrics tells a counter's name from that of its samples.
  const shown = type === 'counter' && !isOpen ? `${name}_total` : name;
  const unit = units.find((word) => name.endsWith(`_${word}`));
  const lines = [`# HELP ${shown} ${isOpen ? escaped(help) : help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`];
  lines.push(`# TYPE ${shown} ${type}`);
  if (isOpen && unit) lines.push(`# UNIT ${shown} ${unit}`);
  return lines;
}

function body({ name, type, samples }: Family, format: ExpositionFormat): string[] {
  if (type === 'histogram') return samples.flatMap((sample) => histogramLines(name, sample, format));
  const shown = type === 'counter' ? `${name}_total` : name;
  return samples.map(({ labels, value }) => `${shown}${labelled(labels)} ${number(value)}`);
}

function histogramLines(name: string, { labels, value, buckets = [] }: Sample, format: ExpositionFormat): string[] {
  let count = 0;
  const lines = buckets.map((bucket: Bucket) => {
    count += bucket.count;
    const line = `${name}_bucket${labelled({ ...labels, le: bound(bucket.upTo, format) })} ${count}`;
    return bucket.exemplar && format === 'openmetrics' ? `${line} ${exemplarText(bucket.exemplar)}` : line;
  });
  return [...lines, `${name}_sum${labelled(labels)} ${number(value)}`, `${name}_count${labelled(labels)} ${count}`];
}

function exemplarText({ traceId, value, atUnixMs }: Exemplar): string {
  return `# {trace_id="${traceId}"} ${number(value)} ${atUnixMs / 1000}`;
}

function labelled(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

const escaped = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

// OpenMetrics wants bounds to be written as floating point numbers.
function bound(upTo: number, format: ExpositionFormat): string {
  const text = number(upTo);
  return format === 'openmetrics' && /^-?\d+$/.test(text) ? `${text}.0` : text;
}

function number(value: number): string {
  if (value === Infinity) return '+Inf';
  if (value === -Infinity) return '-Inf';
  return String(value);
}
