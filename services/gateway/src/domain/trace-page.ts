// The pages that show traces: HTML by itself, without a script, so that nothing of what a trace holds can run. Every
// text goes through `escaped`.
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { msOfDuration } from '@wrenn/kit/duration';
import { type WaterfallRow, shortName, shortService, waterfallOf } from '@wrenn/kit/telemetry/waterfall';
import type { Span, TraceServiceGetResponse, TraceSummary } from '@wrenn/proto/wrenn/v1/trace';

const maxRows = 2000;
const barHeight = 10;
// Told apart by hue; a service keeps its own. Red is for what failed.
const hues = [210, 140, 30, 280, 315, 180, 60, 250];

export function traceListPage(traces: readonly TraceSummary[], sandboxId: string): string {
  const longest = Math.max(...traces.map(durationOf), 0.001);
  const rows = traces.map((trace) => {
    const width = Math.max(0.5, (durationOf(trace) / longest) * 100);
    const failed = trace.isError ? ' class="failed"' : '';
    return `<tr${failed}><td>${escaped(startOf(trace))}</td>
<td><a href="/traces/${escaped(trace.traceId)}">${escaped(shortName({ name: trace.name, kind: 0 }))}</a></td>
<td>${escaped(shortService(trace.service))}</td><td class="number">${ms(durationOf(trace))}</td>
<td class="line"><svg width="100%" height="${barHeight}"><rect width="${width}%" height="${barHeight}" rx="2" fill="${colorOf(trace.service)}"/></svg></td>
<td class="number">${trace.spanCount}</td><td>${trace.sandboxIds.map(sandboxLink).join(' ')}</td></tr>`;
  });
  const what = sandboxId === '' ? 'the last traces' : `traces of ${escaped(sandboxId)}`;
  const table = `<table><thead><tr><th>began</th><th>trace</th><th>service</th><th>ms</th><th></th><th>spans</th>
<th>sandbox</th></tr></thead><tbody>${rows.join('\n')}</tbody></table>`;
  return page(what, traces.length === 0 ? '<p>None is kept yet.</p>' : table);
}

export function tracePage(trace: TraceServiceGetResponse): string {
  const { summary } = trace;
  const { rows, durationMs, hiddenCount } = waterfallOf(trace, maxRows);
  const facts = `<p>${escaped(startTextOf(summary))} · ${ms(durationMs)} ms · ${trace.spans.length} spans · trace
<code>${escaped(summary?.traceId ?? '')}</code> ${(summary?.sandboxIds ?? []).map(sandboxLink).join(' ')}</p>`;
  const hidden = hiddenCount > 0 ? `<p>${hiddenCount} more spans are not drawn.</p>` : '';
  const drawn = rows.map((row) => rowHtml(row, durationMs)).join('\n');
  return page(shortName({ name: summary?.name ?? '', kind: 0 }), `${facts}<div class="spans">${drawn}</div>${hidden}`);
}

export function problemPage(message: string): string {
  return page('no trace', `<p>${escaped(message)}</p>`);
}

function rowHtml({ span, depth, startMs, durationMs }: WaterfallRow, totalMs: number): string {
  const share = (value: number) => (totalMs > 0 ? (value / totalMs) * 100 : 0).toFixed(3);
  const events = span.events.map(({ at }) => {
    const atMs = at && span.startTime ? timestampDate(at).getTime() - timestampDate(span.startTime).getTime() : 0;
    return `<circle cx="${share(startMs + atMs)}%" cy="${barHeight / 2}" r="2.5" class="event"/>`;
  });
  const bar = `<rect x="${share(startMs)}%" width="${share(durationMs)}%" height="${barHeight}" rx="1" fill="${colorOf(span.service)}"/>`;
  return `<details${span.isError ? ' class="failed"' : ''}><summary><span class="name" style="padding-left:${depth}em">
<i style="background:${colorOf(span.service)}"></i>${escaped(shortName(span))}</span>
<span class="service">${escaped(shortService(span.service))}</span><svg height="${barHeight}">${bar}${events.join('')}</svg>
<span class="number">${ms(durationMs)}</span></summary>${detailsHtml(span)}</details>`;
}

function detailsHtml(span: Span): string {
  const facts: [string, string][] = [
    ['span', span.spanId],
    ...(span.isError ? [['status', span.statusMessage] as [string, string]] : []),
    ...Object.entries(span.attributes).sort(([a], [b]) => a.localeCompare(b)),
  ];
  const events = span.events.map(({ name, attributes }) => {
    const told = Object.entries(attributes).map(([key, value]) => `${key}=${value}`);
    return ['event', [name, ...told].join(' ')] as const;
  });
  const rows = [...facts, ...events].map(([key, value]) => `<dt>${escaped(key)}</dt><dd>${escaped(value)}</dd>`);
  const links = span.links.map(({ traceId }) => {
    return `<dt>linked to</dt><dd><a href="/traces/${escaped(traceId)}">${escaped(traceId)}</a></dd>`;
  });
  return `<dl>${[...rows, ...links].join('')}</dl>`;
}

function page(title: string, body: string): string {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escaped(title)} · Wrenn</title>
<style>${style}</style></head><body><header><a href="/">traces</a></header><h1>${escaped(title)}</h1>${body}</body></html>`;
}

const style = `
:root{color-scheme:light dark}
body{font:14px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1400px;padding:1rem 2rem}
h1{font-size:1.3rem;margin:.3rem 0}a{color:inherit}code{font-size:.9em}
table{border-collapse:collapse;width:100%}td,th{padding:.15rem .6rem;text-align:left;white-space:nowrap}
td.line{width:30%}.number{text-align:right;font-variant-numeric:tabular-nums}
summary{display:grid;grid-template-columns:minmax(16rem,26rem) 8rem 1fr 5rem;gap:.6rem;align-items:center;cursor:pointer;padding:1px 0}
summary:hover{background:#8882}summary svg{width:100%;background:#8881}
.name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}.name i{display:inline-block;width:.6em;height:.6em;border-radius:50%;margin-right:.5em}
.service{opacity:.7}.failed .name,tr.failed td{color:#d33}.event{fill:none;stroke:currentColor}
dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem;margin:.2rem 0 .6rem 2rem;font-size:.9em}dt{opacity:.7}dd{margin:0}`;

function sandboxLink(id: string): string {
  return `<a href="/?sandbox=${encodeURIComponent(id)}">${escaped(id)}</a>`;
}

function colorOf(service: string): string {
  let sum = 0;
  for (const char of service) sum = (sum * 31 + char.charCodeAt(0)) % 9973;
  return `hsl(${hues[sum % hues.length]} 60% 50%)`;
}

const durationOf = ({ duration }: TraceSummary) => (duration ? msOfDuration(duration) : 0);
const startOf = ({ startTime }: TraceSummary) => (startTime ? timestampDate(startTime).toISOString() : '');
const startTextOf = (summary: TraceSummary | undefined) => (summary ? startOf(summary) : '');
const ms = (value: number) => value.toFixed(value < 10 ? 2 : 1);

function escaped(text: string): string {
  return text.replaceAll(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
