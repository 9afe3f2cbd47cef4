export type Attributes = Readonly<Record<string, string>>;

export interface KeptSpan {
  readonly traceId: string; // 32 hex digits.
  readonly spanId: string;
  readonly parentId: string; // Empty: a root.
  readonly name: string;
  readonly service: string;
  readonly kind: number;
  readonly startUs: number; // Since 1970.
  readonly durationUs: number;
  readonly isError: boolean;
  readonly statusMessage: string;
  readonly attributes: Attributes;
  readonly events: readonly KeptEvent[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
}

export interface KeptEvent {
  readonly name: string;
  readonly atUs: number;
  readonly attributes: Attributes;
}

const spanBytes = 600;
const entryBytes = 64;
const linkBytes = 160;

// About what it takes in memory.
export function weightOf({ name, statusMessage, attributes, events, links }: KeptSpan): number {
  const inEvents = events.reduce(
    (sum, event) => sum + entryBytes + event.name.length + weightOfAll(event.attributes),
    0,
  );
  return spanBytes + name.length + statusMessage.length + weightOfAll(attributes) + inEvents + linkBytes * links.length;
}

function weightOfAll(attributes: Attributes): number {
  let bytes = 0;
  for (const [key, value] of Object.entries(attributes)) bytes += entryBytes + key.length + value.length;
  return bytes;
}
