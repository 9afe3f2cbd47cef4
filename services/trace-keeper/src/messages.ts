// Spans as they come over the wire, and as they are shown. What comes is taken as far as it makes sense.
import { fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { durationOfMs } from '@wrenn/kit/duration';
import { type ExportedSpan, ExportSchema, type KeyValue } from '@wrenn/proto/wrenn/tracekeeper/v1/otlp';
import { SpanKind } from '@wrenn/proto/wrenn/v1/trace';

import type { Attributes, KeptSpan } from './domain/kept-span.ts';
import type { Trace } from './domain/trace.ts';

const errorCode = 2;
const traceIdBytes = 16;
const spanIdBytes = 8;
const maxTextChars = 4096;

// Throws when the bytes are no OTLP export.
export function spansOf(bytes: Uint8Array): KeptSpan[] {
  return fromBinary(ExportSchema, bytes).resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = attributesOf(resource?.attributes ?? [])['service.name'] ?? '';
    return scopeSpans.flatMap(({ spans }) => spans.filter(isSound).map((span) => spanOf(span, service)));
  });
}

function isSound({ traceId, spanId }: { readonly traceId: Uint8Array; readonly spanId: Uint8Array }): boolean {
  return traceId.length === traceIdBytes && spanId.length === spanIdBytes;
}

function spanOf(span: ExportedSpan, service: string): KeptSpan {
  const startUs = usOf(span.startTimeUnixNano);
  return {
    service,
    traceId: hexOf(span.traceId),
    spanId: hexOf(span.spanId),
    parentId: span.parentSpanId.length === spanIdBytes ? hexOf(span.parentSpanId) : '',
    name: cut(span.name),
    kind: span.kind,
    startUs,
    durationUs: Math.max(0, usOf(span.endTimeUnixNano) - startUs),
    isError: span.status?.code === errorCode,
    statusMessage: cut(span.status?.message ?? ''),
    attributes: attributesOf(span.attributes),
    events: span.events.map(({ name, timeUnixNano, attributes }) => ({
      name: cut(name),
      atUs: usOf(timeUnixNano),
      attributes: attributesOf(attributes),
    })),
    links: span.links.filter(isSound).map((link) => ({ traceId: hexOf(link.traceId), spanId: hexOf(link.spanId) })),
  };
}

function attributesOf(pairs: readonly KeyValue[]): Attributes {
  const attributes: Record<string, string> = {};
  for (const { key, value } of pairs) {
    if (value?.value.case !== undefined) attributes[cut(key)] = cut(String(value.value.value));
  }
  return attributes;
}

// A copy: what is merely sliced keeps all of the text that it comes from.
function cut(text: string): string {
  return text.length > maxTextChars ? Buffer.from(text.slice(0, maxTextChars)).toString() : text;
}

const usOf = (nanos: bigint) => Number(nanos / 1000n);
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

export function summaryMessage(trace: Trace) {
  const { id: traceId, head, startUs, endUs, spans, errorCount, sandboxIds } = trace;
  return {
    traceId,
    name: head.name,
    service: head.service,
    startTime: timeMessage(startUs),
    duration: durationOfMs((endUs - startUs) / 1000),
    spanCount: spans.length,
    errorCount,
    isError: head.isError,
    sandboxIds: [...sandboxIds],
  };
}

export function spanMessage(span: KeptSpan) {
  const { spanId, parentId, name, service, kind, isError, statusMessage, attributes, links } = span;
  return {
    ...{ spanId, parentId, name, service, isError, statusMessage },
    kind: Object.values(SpanKind).find((known) => known === kind) ?? SpanKind.UNSPECIFIED,
    startTime: timeMessage(span.startUs),
    duration: durationOfMs(span.durationUs / 1000),
    attributes: { ...attributes },
    events: span.events.map((event) => ({
      name: event.name,
      at: timeMessage(event.atUs),
      attributes: { ...event.attributes },
    })),
    links: links.map((link) => ({ ...link })),
  };
}

function timeMessage(us: number) {
  const message = timestampFromMs(Math.floor(us / 1000));
  return { ...message, nanos: message.nanos + (us % 1000) * 1000 };
}
