import { toJson } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { msOfDuration } from '@wrenn/kit/duration';
import { WrennError } from '@wrenn/kit/errors';
import { shortName, shortService } from '@wrenn/kit/telemetry/waterfall';
import { TraceServiceGetResponseSchema, type TraceSummary, TraceSummarySchema } from '@wrenn/proto/wrenn/v1/trace';

import type { MeshClient } from '../client.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { formatAge, formatMs, parseCount } from '../output/units.ts';
import { drawWaterfall } from '../output/waterfall.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

interface TraceFlags extends GatewayOption {
  readonly list?: true;
  readonly name?: string;
  readonly limit?: string;
  readonly verbose?: true;
  readonly json?: true;
}

const askLimitMs = 30_000;
const usualColumns = 120;
const shownIdChars = 12;
const traceIdPattern = /^[0-9a-f]{4,32}$/;

export function traceCommand(context: CommandContext): Command {
  const command = new Command('trace')
    .description('show where the time of a call went: the last traces, or one of them as a waterfall')
    .argument('[id]', 'trace id, or sandbox id (its newest trace), or enough of either')
    .option('-l, --list', "list a sandbox's traces instead of drawing the newest")
    .option('-n, --name <text>', 'only traces whose name contains it, like Pause')
    .option('--limit <n>', 'how many to list (default: 20)')
    .option('-v, --verbose', 'what each span says: bytes, pages, lanes, retries')
    .option('--json', 'the trace as JSON; a list as JSON, one a line')
    .addOption(gatewayOption())
    .action(async (id: string | undefined, flags: TraceFlags) => {
      using client = openClient(context, flags);
      if (id !== undefined && isTraceId(id)) await draw(context, client, id, flags);
      else await ofSandbox(context, client, id, flags);
    });
  return withExamples(command, 'wrenn trace', 'wrenn trace cl-4f0 --name Pause -v', 'wrenn trace 4bf92f35');
}

// A sandbox can be named by digits alone too; `cl-` says so.
function isTraceId(text: string): boolean {
  return traceIdPattern.test(text);
}

async function ofSandbox(context: CommandContext, client: MeshClient, id: string | undefined, flags: TraceFlags) {
  const sandboxId = id === undefined ? '' : await client.findId(id);
  const isListed = id === undefined || flags.list === true;
  const limit = isListed ? parseCount(flags.limit ?? '20', '--limit', 1, 1000) : 1;
  const { traces } = await client.traces.list({ sandboxId, name: flags.name ?? '', limit }, inMs(askLimitMs));
  const [newest] = traces;
  if (!newest)
    throw new WrennError('TRACE_NOT_FOUND', 'no such trace is kept; those of the last second may still come');
  if (isListed && flags.json)
    for (const trace of traces) context.print(JSON.stringify(toJson(TraceSummarySchema, trace)));
  else if (isListed) context.print(traceTable(traces, Date.now()));
  else await draw(context, client, newest.traceId, flags);
}

async function draw(context: CommandContext, client: MeshClient, traceId: string, flags: TraceFlags): Promise<void> {
  const trace = await client.traces.get({ traceId }, inMs(askLimitMs));
  if (flags.json) {
    context.print(JSON.stringify(toJson(TraceServiceGetResponseSchema, trace)));
    return;
  }
  if (trace.summary) context.print(titleOf(trace.summary));
  const options = { columns: process.stdout.columns ?? usualColumns, withDetails: flags.verbose ?? false };
  for (const line of drawWaterfall(trace, options)) context.print(line);
}

function titleOf({ name, traceId, duration, spanCount, errorCount, sandboxIds }: TraceSummary): string {
  const failed = errorCount > 0 ? ` (${errorCount} say no or failed)` : '';
  const took = formatMs(duration ? msOfDuration(duration) : 0);
  const about = sandboxIds.length > 0 ? `  ${sandboxIds.map(printable).join(' ')}` : '';
  return `${printable(name)}  ${took}  ${spanCount} spans${failed}  trace ${printable(traceId)}${about}`;
}

function traceTable(traces: readonly TraceSummary[], nowMs: number): string {
  const rows = traces.map((trace) => [
    printable(trace.traceId).slice(0, shownIdChars),
    trace.startTime ? formatAge(nowMs - timestampMs(trace.startTime)) : '-',
    printable(shortName({ name: trace.name, kind: 0 })),
    printable(shortService(trace.service)),
    formatMs(trace.duration ? msOfDuration(trace.duration) : 0),
    String(trace.spanCount),
    trace.isError ? 'failed' : 'ok',
    trace.sandboxIds.map(printable).join(' '),
  ]);
  return table(['TRACE', 'AGE', 'NAME', 'SERVICE', 'TIME', 'SPANS', 'END', 'SANDBOX'], rows);
}
