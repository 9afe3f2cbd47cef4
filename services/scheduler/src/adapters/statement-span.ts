// One span a statement, named by what it does to which table. Neither its text nor its values are told.
import { type Span, startClientSpan } from '@wrenn/kit/telemetry/span';

const tablePattern = /\b(?:from|into|update|join)\s+"?([a-z_]+)"?/i;
// What a statement of several parts is for: the first that changes anything.
const changePattern = /\b(insert into|update|delete from)\s+"?([a-z_]+)"?/i;

export function startStatement(config: unknown): Span {
  const span = startClientSpan('statement');
  if (!span.isRecording()) return span;
  const text = textOf(config);
  const first = /^\s*([a-z]+)/i.exec(text)?.[1]?.toUpperCase() ?? '';
  const [, change, changed] = (first === 'WITH' && changePattern.exec(text)) || [];
  const operation = change?.split(' ')[0]?.toUpperCase() ?? first;
  const table = changed ?? tablePattern.exec(text)?.[1] ?? '';
  span.updateName(`${operation} ${table}`.trim());
  span.setAttributes({ 'db.system.name': 'postgresql', 'db.operation.name': operation });
  if (table !== '') span.setAttribute('db.collection.name', table);
  return span;
}

function textOf(config: unknown): string {
  if (typeof config === 'string') return config;
  const text = typeof config === 'object' && config !== null && 'text' in config ? config.text : '';
  return typeof text === 'string' ? text : '';
}
