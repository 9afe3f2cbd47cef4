import type { ExpositionFormat } from './exposition.ts';

const types: Record<ExpositionFormat, readonly string[]> = {
  openmetrics: ['application/openmetrics-text'],
  prometheus: ['text/plain', 'text/*', '*/*'],
};

// The format that an Accept header prefers; Prometheus' own where it says nothing of either.
export function formatFor(accept: string | undefined): ExpositionFormat {
  return weight(accept, 'openmetrics') > weight(accept, 'prometheus') ? 'openmetrics' : 'prometheus';
}

function weight(accept: string | undefined, format: ExpositionFormat): number {
  const ranges = (accept ?? '').split(',').flatMap((range) => {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    if (!types[format].includes(type)) return [];
    const q = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1);
    return [Number.isFinite(q) ? q : 0];
  });
  return Math.max(0, ...ranges);
}
