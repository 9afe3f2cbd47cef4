// The table of reasons, from what stands beside each in errors.ts and what the protos say of each rpc.
import { Status } from 'nice-grpc-common';

export interface ReasonNote {
  readonly reason: string;
  readonly code: string;
  readonly meaning: string;
  readonly advice: string;
}

// Where a reason is named: of one method, or of every method of the service.
export interface Mention {
  readonly service: string;
  readonly method: string | undefined;
  readonly code: string;
  readonly reason: string;
}

const entry = /^ {2}([A-Z_]+): Status\.([A-Z_]+),(.*)$/;
const note = /^ \/\/ (\S.*\.) Do: (\S.*\.)$/;

export function readReasons(source: string): ReasonNote[] {
  return source.split('\n').flatMap((line) => {
    const [, reason, code, rest = ''] = entry.exec(line) ?? [];
    if (reason === undefined || code === undefined) return [];
    const [, meaning, advice] = note.exec(rest) ?? [];
    if (meaning === undefined || advice === undefined) {
      throw new Error(`${reason}: needs a comment beside it, like \`// What it means. Do: what to do.\``);
    }
    return [{ reason, code, meaning, advice }];
  });
}

const codes = new Set(Object.values(Status).filter((each) => typeof each === 'string'));

// What the comments of a proto file say: `CODE(REASON | REASON)`, and `Errors … as Method`.
export function readMentions(proto: string): Mention[] {
  const mentions: Mention[] = [];
  let service = '';
  let comment = '';
  for (const line of proto.split('\n')) {
    const [, text] = /^\s*\/\/ ?(.*)$/.exec(line) ?? [];
    if (text !== undefined) {
      comment += `${text} `;
      continue;
    }
    const [, kind, name = ''] = /^\s*(service|rpc) (\w+)/.exec(line) ?? [];
    if (kind === 'service') service = name;
    if (kind !== undefined) {
      const method = kind === 'rpc' ? name : undefined;
      mentions.push(...named(comment).map((each) => ({ service, method, ...each })));
      const [, like] = /\bErrors\b[^.:]* as (\w+)\./.exec(comment) ?? [];
      const likes = mentions.filter((each) => each.service === service && each.method === like);
      if (like !== undefined && method !== undefined) mentions.push(...likes.map((each) => ({ ...each, method })));
    }
    comment = '';
  }
  return mentions;
}

function named(comment: string): { code: string; reason: string }[] {
  return [...comment.matchAll(/\b([A-Z_]{4,})\(([A-Z_ |]+)\)/g)].flatMap(([, code = '', reasons = '']) =>
    codes.has(code) ? reasons.split('|').map((reason) => ({ code, reason: reason.trim() })) : [],
  );
}

export function renderTable(reasons: readonly ReasonNote[], mentions: readonly Mention[]): string {
  for (const { service, method, code, reason } of mentions) {
    const known = reasons.find((each) => each.reason === reason);
    const where = `${service}${method === undefined ? '' : `.${method}`}`;
    if (!known) throw new Error(`${where} names ${reason}, which errors.ts does not know`);
    if (known.code !== code) throw new Error(`${where} gives ${reason} the code ${code}; it is ${known.code}`);
  }
  const rows = reasons.map(({ reason, code, meaning, advice }) => [
    `\`${reason}\``,
    code,
    meaning,
    advice.charAt(0).toUpperCase() + advice.slice(1),
    raisersOf(mentions.filter((each) => each.reason === reason)),
  ]);
  return table(['reason', 'gRPC code', 'it means', 'what to do', 'named by'], rows);
}

function raisersOf(mentions: readonly Mention[]): string {
  const services = Object.entries(Object.groupBy(mentions, ({ service }) => service));
  const parts = services.map(([service, of = []]) => {
    const methods = [...new Set(of.flatMap(({ method }) => method ?? []))];
    return of.some(({ method }) => method === undefined) ? `all of ${service}` : `${service} ${methods.join(', ')}`;
  });
  return parts.join('; ') || 'any';
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = head.map((_name, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const lines = cells.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  lines.splice(1, 0, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`);
  return `${lines.join('\n')}\n`;
}
